// The server, over HTTP. Addresses are relative, so that the page works under a proxy's path too.

import {apiKey} from './store.js'

// An APIError is what a server answers in place of what was asked. Its kind is one of the page's words:
//   key       the API key is missing or wrong
//   loading   the model is being loaded
//   overflow  the conversation is longer than the context: tokens and context say by how much
//   refused   the server can't do what the request asks for; message says why
//   failed    the server failed; message says how
//   gone      nothing answers
//   cut       the answer broke off
export class APIError extends Error {
  constructor(kind, message = '', values = {}) {
    super(message)
    this.kind = kind
    this.values = values
  }

  static of(status, error) {
    const message = String(error?.message ?? `HTTP ${status}`)
    if (status === 401) return new APIError('key', message)
    if (error?.type === 'exceed_context_size_error') {
      return new APIError('overflow', message, {tokens: error.n_prompt_tokens, context: error.n_ctx})
    }
    if (status === 503 && /loading/i.test(message)) return new APIError('loading', message)
    return new APIError(status >= 500 ? 'failed' : 'refused', message)
  }
}

async function ask(path, options = {}) {
  const headers = {...options.headers}
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`
  let response
  try {
    response = await fetch(path, {...options, headers})
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new APIError('gone')
  }
  if (response.ok) return response
  const body = await response.json().catch(() => null)
  throw APIError.of(response.status, body?.error)
}

const json = async path => (await ask(path)).json()

export const models = async () => (await json('v1/models')).data
export const properties = model => json(`props?model=${encodeURIComponent(model)}`)

// metrics are the numbers of Prometheus's text format that a model has, by name; undefined while it is not loaded.
export async function metrics(model) {
  const text = await (await ask('metrics')).text()
  let found
  for (const [, name, label, value] of text.matchAll(/^([\w:]+)\{model_name="((?:[^"\\]|\\.)*)"\} (\S+)$/gm)) {
    if (label.replace(/\\(.)/g, '$1') === model) (found ??= {})[name] = Number(value)
  }
  return found
}

// chat asks for an answer and yields its chunks as they come.
export async function* chat(body, signal) {
  const response = await ask('v1/chat/completions',
    {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body), signal})
  for await (const data of events(response.body)) {
    if (data === '[DONE]') return
    const chunk = JSON.parse(data)
    if (chunk.error) throw APIError.of(chunk.error.code ?? 500, chunk.error)
    yield chunk
  }
  throw new APIError('cut')
}

// events yields the data of server-sent events (HTML Living Standard, section 9.2).
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader()
  const read = () => reader.read().catch(error => {
    throw error.name === 'AbortError' ? error : new APIError('cut')
  })
  let rest = ''
  try {
    for (let part; !(part = await read()).done;) {
      const lines = (rest + part.value).split(/\r?\n/)
      rest = lines.pop()
      for (const line of lines) {
        if (line.startsWith('data:')) yield line.slice(5).trimStart()
      }
    }
  } finally {
    reader.cancel().catch(() => {}) // it has ended, or nobody reads on
  }
}
