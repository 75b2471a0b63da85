// A conversation is a tree of messages: to edit a question, or to ask for another answer, grows a branch beside the old one, and
// nothing is lost. What is shown is the path from the root to the message named by leaf.

const newID = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), n => n.toString(36)).join('')

export const create = settings =>
  ({id: newID(), title: '', created: Date.now(), updated: Date.now(), settings: {...settings}, leaf: null, messages: new Map()})

// add puts a message after another, or with parent null at the beginning, and shows it.
export function add(c, parent, message) {
  const m = {id: newID(), parent, ...message}
  c.messages.set(m.id, m)
  c.leaf = m.id
  c.updated = Date.now()
  return m
}

// path lists the messages that are shown.
export function path(c) {
  const list = []
  for (let m = c.messages.get(c.leaf); m; m = c.messages.get(m.parent)) list.push(m)
  return list.reverse()
}

// siblings lists a message and those that stand in its place on other branches, oldest first.
export const siblings = (c, m) => [...c.messages.values()].filter(other => other.parent === m.parent)

// show makes a message part of the path, with the newest messages after it.
export function show(c, m) {
  for (let next = m; next; next = [...c.messages.values()].findLast(other => other.parent === m.id)) m = next
  c.leaf = m.id
}

// drop removes a message that nothing follows.
export function drop(c, m) {
  c.messages.delete(m.id)
  if (c.leaf === m.id) c.leaf = m.parent
}

// fenced is a file's text in a block that no line of it ends.
function fenced({name, text}) {
  let fence = '```'
  for (const [, inner] of text.matchAll(/^ *(`{3,})/gm)) {
    if (inner.length >= fence.length) fence = inner + '`'
  }
  return `${name}:\n${fence}\n${text.replace(/\n$/, '')}\n${fence}\n\n`
}

function asSent(m) {
  switch (m.role) {
    case 'user':
      return {role: 'user', content: (m.files ?? []).map(fenced).join('') + m.content}
    case 'tool':
      return {role: 'tool', tool_call_id: m.call, content: m.content}
  }
  const sent = {role: 'assistant', content: m.content}
  if (m.reasoning) sent.reasoning_content = m.reasoning
  if (m.calls?.length) {
    sent.content ||= null
    sent.tool_calls = m.calls.map(call => ({id: call.id, type: 'function', function: {name: call.name, arguments: call.arguments}}))
  }
  return sent
}

const numbers = ['temperature', 'top_p', 'top_k', 'min_p', 'repeat_penalty', 'max_tokens', 'seed']

// request is the body of a chat completion: the shown messages up to the question, and the conversation's settings. What those
// leave open is the server's to choose.
export function request(c, question, model) {
  const s = c.settings, body = {model, stream: true, stream_options: {include_usage: true}}
  for (const name of numbers) {
    if (s[name] != null) body[name] = s[name]
  }
  if (s.stop) body.stop = s.stop.split('\n').filter(line => line)
  if (s.reasoning === 'off') body.chat_template_kwargs = {enable_thinking: false}
  else if (s.reasoning) body.reasoning_effort = s.reasoning
  if (s.probabilities) Object.assign(body, {logprobs: true, top_logprobs: 5})
  if (s.tools) body.tools = JSON.parse(s.tools)
  const messages = path(c)
  body.messages = messages.slice(0, messages.indexOf(question) + 1).map(asSent)
  if (s.system) body.messages.unshift({role: 'system', content: s.system})
  return body
}

// receive adds a chunk of a stream to an answer.
export function receive(m, chunk) {
  if (chunk.timings) m.timings = chunk.timings
  if (chunk.usage) m.usage = chunk.usage
  const choice = chunk.choices?.[0]
  if (!choice) return
  const delta = choice.delta ?? {}
  m.content += delta.content ?? ''
  if (delta.reasoning_content) m.reasoning = (m.reasoning ?? '') + delta.reasoning_content
  for (const part of delta.tool_calls ?? []) {
    m.calls ??= []
    const call = m.calls[Math.min(part.index ?? 0, m.calls.length)] ??= {id: '', name: '', arguments: ''}
    call.id ||= part.id ?? ''
    call.name ||= part.function?.name ?? ''
    call.arguments += part.function?.arguments ?? ''
  }
  if (!delta.reasoning_content) {
    for (const token of choice.logprobs?.content ?? []) {
      m.tokens ??= []
      m.tokens.push({text: token.token, logprob: token.logprob, top: token.top_logprobs.map(other => [other.token, other.logprob])})
    }
  }
  m.finish = choice.finish_reason ?? m.finish
}
