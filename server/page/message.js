// One message of a conversation on the page.

import {siblings} from './conversation.js'
import {copy, el, grow, icon, iconButton} from './dom.js'
import * as markdown from './markdown.js'
import * as tokens from './tokens.js'
import {bytes, number, t} from './words.js'

// view makes a message's element, and update, which shows what the message has become. state.running says whether it is being
// written, state.last whether nothing follows it. on has what its buttons do: edit(m, text), again(m), show(m), results(m, texts).
export function view(c, m, state, on) {
  const make = {user: question, assistant: answer, tool: result}[m.role]
  const {parts, update} = make(c, m, state, on)
  const element = el(`article.message.${m.role}`, {}, el('h2.hidden', {}, t(`${m.role}Says`)), parts)
  update?.(element)
  return {element, update: () => update?.(element)}
}

// ---- questions

function question(c, m, state, on) {
  const body = el('div.body.verbatim', {dir: 'auto'}, m.content)
  const files = (m.files ?? []).map(file => el('details.file', {},
    el('summary', {}, icon('paper'), file.name, el('span.faint', {}, bytes(file.size))),
    el('pre', {tabindex: 0, role: 'group', 'aria-label': file.name}, file.text)))
  const edit = iconButton('pen', t('edit'), () => {
    const area = el('textarea', {'aria-label': t('edit')}, m.content)
    const cancel = () => form.replaceWith(body)
    const form = el('form.edit', {onsubmit: event => {
      event.preventDefault()
      if (area.value.trim()) on.edit(m, area.value.trim())
    }}, area, el('div.buttons', {}, el('button.plain', {type: 'button', onclick: cancel}, t('cancel')), el('button.primary', {}, t('send'))))
    area.addEventListener('input', () => grow(area))
    area.addEventListener('keydown', event => {
      if (event.isComposing) return
      if (event.key === 'Escape') {
        event.stopPropagation()
        cancel()
        edit.focus()
      } else if (event.key === 'Enter' && !event.shiftKey) {
        event.preventDefault()
        form.requestSubmit()
      }
    })
    body.replaceWith(form)
    grow(area)
    area.focus()
  }, {'data-action': 'edit'})
  return {parts: [...files, body, el('div.actions', {}, versions(c, m, on), copyButton(() => m.content), edit)]}
}

// versions leads to what stands in a message's place on other branches.
function versions(c, m, on) {
  const all = siblings(c, m), at = all.indexOf(m)
  if (all.length < 2) return null
  return el('span.versions', {},
    iconButton('left', t('earlier'), () => on.show(all[at - 1]), {disabled: at === 0}),
    el('span', {}, `${number(at + 1)}/${number(all.length)}`),
    iconButton('right', t('later'), () => on.show(all[at + 1]), {disabled: at === all.length - 1}))
}

function copyButton(text) {
  const button = iconButton('copy', t('copy'), async () => {
    await copy(text())
    button.classList.add('done')
    setTimeout(() => button.classList.remove('done'), 1500)
  })
  return button
}

// ---- results of tools

function result(c, m) {
  return {parts: el('details.fold', {}, el('summary', {}, icon('wrench'), t('resultOf', {name: m.name})),
    el('pre', {tabindex: 0, role: 'group', 'aria-label': t('resultOf', {name: m.name})}, m.content))}
}

// ---- answers

function answer(c, m, state, on) {
  const thought = el('div.body', {dir: 'auto'}), summary = el('span')
  const reasoning = el('details.fold', {hidden: true}, el('summary', {}, icon('bulb'), summary), thought)
  const waiting = el('div.waiting', {}, el('span.hidden', {}, t('waiting')), el('i'), el('i'), el('i'))
  const body = el('div.body', {dir: 'auto'})
  const calls = el('div.calls'), note = el('p.faint', {hidden: true}), fault = el('div.fault', {hidden: true}), actions = el('div.actions')
  const shown = []

  function update(element) {
    element.setAttribute('aria-busy', Boolean(state.running))
    waiting.hidden = !state.running || Boolean(m.content || m.reasoning || m.calls)
    reasoning.hidden = !m.reasoning
    if (m.reasoning) {
      summary.textContent = t(state.running && !m.content && !m.calls ? 'thinking' : 'thought')
      markdown.update(thought, m.reasoning)
    }
    markdown.update(body, m.content)
    for (const [i, call] of (m.calls ?? []).entries()) {
      shown[i] ??= callView(calls)
      shown[i](call, state.running)
    }
    if (state.running) return
    if (m.calls?.length && state.last && !m.error) calls.append(resultsForm(m, on))
    if (m.tokens?.length) {
      tokens.annotate(body, m.tokens)
      tokens.watch(body, m.tokens)
    }
    if (m.error) {
      fault.replaceChildren(el('p', {}, t(`error_${m.error.kind}`, m.error.values)),
        m.error.message && m.error.kind !== 'overflow' ? el('p.faint', {}, m.error.message) : '',
        el('button.plain', {type: 'button', 'data-action': 'retry', onclick: () => on.again(m)}, icon('again'), t('retry')))
      fault.hidden = false
    }
    const why = m.error || ['stop', 'tool_calls'].includes(m.finish) ? null : m.finish === 'length' ? 'cutAtLimit' : 'stopped'
    note.hidden = !why
    note.textContent = why ? t(why) : ''
    actions.replaceChildren(...[versions(c, m, on), m.content && copyButton(() => m.content),
      !m.error && iconButton('again', t('again'), () => on.again(m), {'data-action': 'again'}), m.tokens && probabilitiesButton(body),
      m.timings && el('span.faint.numbers', {title: t('answerTitle', {prompt: m.timings.prompt_n, cached: m.timings.cache_n})},
        t('answerNumbers', {n: m.timings.predicted_n, rate: m.timings.predicted_per_second}))].filter(Boolean))
  }
  return {parts: [reasoning, waiting, body, calls, fault, note, actions], update}
}

// probabilitiesButton colours the tokens of an answer, and lets the arrow keys walk through them.
function probabilitiesButton(body) {
  const button = iconButton('chart', t('probabilities'), () => {
    const on = body.classList.toggle('heat')
    button.setAttribute('aria-pressed', on)
    if (on) {
      for (const [key, value] of Object.entries({tabindex: 0, role: 'group', 'aria-label': tokens.label()})) body.setAttribute(key, value)
      body.focus()
    } else {
      for (const key of ['tabindex', 'role', 'aria-label']) body.removeAttribute(key)
      tokens.hide()
    }
  }, {'aria-pressed': 'false', 'data-action': 'probabilities'})
  return button
}

// pretty is JSON with room in it, or the text as it is.
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}

// callView adds a call to an element, and returns what shows how far it has come.
function callView(calls) {
  const label = el('span'), pre = el('pre', {tabindex: 0, role: 'group'})
  calls.append(el('details.fold', {}, el('summary', {}, icon('wrench'), label), pre))
  return (call, running) => {
    label.textContent = t(running ? 'calling' : 'calls', {name: call.name || '…'})
    pre.setAttribute('aria-label', label.textContent)
    pre.textContent = pretty(call.arguments)
  }
}

// resultsForm asks for what the tools return: the page has none of its own.
function resultsForm(m, on) {
  const areas = m.calls.map(({name}) =>
    el('textarea', {rows: 2, 'aria-label': t('resultOf', {name}), placeholder: t('resultOf', {name})}))
  for (const area of areas) area.addEventListener('input', () => grow(area))
  return el('form.results', {onsubmit: event => {
    event.preventDefault()
    on.results(m, areas.map(area => area.value))
  }}, areas, el('div.buttons', {}, el('button.primary', {}, t('sendResults'))))
}
