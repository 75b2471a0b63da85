// The page: which conversation is shown, what is asked, and what comes.

import * as api from './api.js'
import {add, create, drop, path, receive, request, show} from './conversation.js'
import {$, announce, el, grow, iconButton} from './dom.js'
import * as message from './message.js'
import * as settings from './settings.js'
import * as store from './store.js'
import * as strip from './strip.js'
import {bytes, speak, t} from './words.js'

const maxFile = 1 << 20      // bytes
const saveEvery = 2000       // ms, while an answer comes
const titleLength = 80       // characters
const nearEnd = 80           // pixels from the end within which the page follows an answer

const conversations = new Map()
const runs = new Map() // by conversation: the answer that is coming, its AbortController, and how to show it
let current            // the conversation that is shown; it is in conversations once something was asked
let models = []
let files = []         // attached to the next question
const log = $('#messages')

// ---- the conversation

function showConversation(c) {
  current = c
  log.replaceChildren()
  const messages = path(c)
  if (!messages.length) log.append(welcome())
  for (const [i, m] of messages.entries()) showMessage(m, i === messages.length - 1)
  $('#title').textContent = c.title || t('newChat')
  document.title = c.title ? `${c.title} · pumice` : 'pumice'
  showList()
  showButtons()
  showLength()
  toEnd()
  if (document.activeElement === document.body) log.focus({preventScroll: true}) // what had the focus is gone
}

function showMessage(m, last) {
  const run = runs.get(current.id)
  const state = {running: run?.message === m, last}
  const view = message.view(current, m, state, {edit, again, show: showBranch, results})
  log.append(view.element)
  if (state.running) {
    run.update = () => {
      const follow = atEnd()
      state.running = runs.get(run.conversation.id) === run
      view.update()
      if (follow) toEnd()
    }
  }
}

function welcome() {
  const examples = [t('example1'), t('example2'), t('example3')].map(text =>
    el('button.example', {type: 'button', onclick: () => ask(text)}, text))
  return el('section.welcome', {}, el('h2', {}, t('welcome')), el('p.faint', {}, t('welcomeMore')), el('div.examples', {}, examples))
}

const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < nearEnd

function toEnd() {
  log.scrollTop = log.scrollHeight
  $('#latest').hidden = true
}

function showButtons() {
  const running = runs.has(current.id)
  const focused = [$('#send'), $('#stop')].includes(document.activeElement)
  $('#stop').hidden = !running
  $('#send').hidden = running
  $('#send').disabled = !$('#question').value.trim() && !files.length
  if (focused) $('#question').focus()
  strip.hurry(runs.size > 0)
}

// showLength says how much of the context the conversation takes.
function showLength() {
  const n = path(current).at(-1)?.usage?.total_tokens, all = strip.contextOf()
  $('#length').textContent = n && all ? t('contextUsed', {n, all}) : ''
}

function keep(c) {
  conversations.set(c.id, c)
  return store.save(c).catch(() => toast(t('notKept')))
}

// ---- asking

function ask(text) {
  const c = current
  if (runs.has(c.id)) return
  if (!conversations.has(c.id)) c.title = title(text || files[0].name)
  answerTo(c, add(c, c.leaf, {role: 'user', content: text, files}))
  files = []
  showFiles()
}

const title = text => {
  const line = text.trim().split('\n', 1)[0]
  return line.length > titleLength ? `${line.slice(0, titleLength)}…` : line
}

function edit(m, text) {
  if (runs.has(current.id)) return
  answerTo(current, add(current, m.parent, {role: 'user', content: text, files: m.files}))
}

// again asks for another answer in place of one; of one that failed nothing is kept.
function again(m) {
  const c = current
  if (runs.has(c.id)) return
  const question = c.messages.get(m.parent)
  if (m.error && !m.content) drop(c, m)
  c.leaf = question.id
  answerTo(c, question)
}

function results(m, texts) {
  let last = m
  for (const [i, call] of m.calls.entries()) last = add(current, last.id, {role: 'tool', call: call.id, name: call.name, content: texts[i]})
  answerTo(current, last)
}

function showBranch(m) {
  if (runs.has(current.id)) return
  show(current, m)
  keep(current)
  showConversation(current)
}

// answerTo asks the server for the answer to a message, and shows it as it comes.
async function answerTo(c, question) {
  const body = request(c, question, store.choices.model)
  const run = {conversation: c, abort: new AbortController(), update() {}}
  run.message = add(c, question.id, {role: 'assistant', content: '', model: body.model})
  runs.set(c.id, run)
  keep(c)
  showConversation(c)
  announce(t('waiting'))
  let frame = 0, saved = Date.now()
  try {
    for await (const chunk of api.chat(body, run.abort.signal)) {
      receive(run.message, chunk)
      frame ||= requestAnimationFrame(() => {
        frame = 0
        if (current === c) run.update()
      })
      if (Date.now() - saved > saveEvery) {
        saved = Date.now()
        keep(c)
      }
    }
  } catch (error) {
    if (error.name !== 'AbortError') run.message.error = explain(error)
  }
  cancelAnimationFrame(frame)
  runs.delete(c.id)
  if (conversations.has(c.id)) keep(c)
  ended(c, run)
}

function explain(error) {
  if (!(error instanceof api.APIError)) return {kind: 'failed', message: String(error), values: {}}
  return {kind: error.kind, message: error.message, values: error.values}
}

async function ended(c, {message: m, update}) {
  if (current === c) {
    update()
    showButtons()
    showLength()
  }
  showList()
  strip.hurry(runs.size > 0)
  announce(m.error ? t(`error_${m.error.kind}`, m.error.values) : `${t(m.finish ? 'answered' : 'stopped')} ${m.content.slice(0, 2000)}`)
  if (m.error?.kind === 'key' && await askKey() && current === c) again(m)
}

async function askKey() {
  const given = await settings.askKey()
  if (given) strip.watch(store.choices.model)
  return given
}

const stop = () => runs.get(current.id)?.abort.abort()

// ---- the list of conversations

function showList() {
  const all = [...conversations.values()].sort((a, b) => b.updated - a.updated)
  $('#list').replaceChildren(...all.map(c => {
    const open = el('button.open', {type: 'button', 'aria-current': c === current && 'true', onclick: () => {
      openSidebar(false)
      showConversation(c)
    }}, runs.has(c.id) && el('span.dot', {title: t('waiting')}), el('span', {}, c.title))
    const item = el('li', {}, open,
      iconButton('pen', t('rename', {title: c.title}), () => rename(c, item)),
      iconButton('bin', t('delete', {title: c.title}), () => remove(c)))
    return item
  }))
}

function rename(c, item) {
  const field = el('input', {'aria-label': t('rename', {title: c.title}), value: c.title})
  const finish = save => {
    field.onblur = null
    if (save && field.value.trim()) {
      c.title = field.value.trim()
      keep(c)
    }
    showList()
    if (c === current) $('#title').textContent = c.title
    $('#list [aria-current]')?.focus()
  }
  field.onblur = () => finish(true)
  field.onkeydown = event => {
    if (event.isComposing || !['Enter', 'Escape'].includes(event.key)) return
    event.stopPropagation()
    finish(event.key === 'Enter')
  }
  item.replaceChildren(field)
  field.select()
}

function remove(c) {
  runs.get(c.id)?.abort.abort()
  conversations.delete(c.id)
  store.remove(c.id).catch(() => toast(t('notKept')))
  if (c === current) newConversation()
  else showList()
  $('#new').focus()
  toast(t('deleted', {title: c.title}), t('undo'), () => {
    keep(c)
    showConversation(c)
  })
}

function newConversation() {
  openSidebar(false)
  showConversation(create(store.choices.settings))
}

// changedElsewhere takes over what another tab has made of a conversation.
async function changedElsewhere(id) {
  if (runs.has(id)) return
  const c = await store.get(id)
  if (c) conversations.set(id, c)
  else conversations.delete(id)
  if (id !== current.id) showList()
  else if (c) showConversation(c)
  else newConversation()
}

let toastTimer

function toast(text, action, onclick) {
  const hide = () => { $('#toast').hidden = true }
  $('#toast').replaceChildren(el('span', {}, text), action ? el('button.plain', {type: 'button', onclick: () => {
    hide()
    onclick()
  }}, action) : '')
  $('#toast').hidden = false
  clearTimeout(toastTimer)
  toastTimer = setTimeout(hide, 8000)
}

// openSidebar shows the list on a narrow screen, where it covers the page.
function openSidebar(open) {
  const narrow = matchMedia('(width < 48rem)').matches
  document.body.classList.toggle('listing', open && narrow)
  $('#shade').hidden = !(open && narrow)
  $('#page').inert = open && narrow
  $('#sidebar').inert = narrow && !open
  $('#menu-button').setAttribute('aria-expanded', open && narrow)
  if (open && narrow) $('#new').focus()
}

// ---- files

async function attach(list) {
  for (const file of list) {
    if (file.size > maxFile) {
      toast(t('fileTooLarge', {name: file.name, limit: bytes(maxFile)}))
      continue
    }
    try {
      const text = new TextDecoder('utf-8', {fatal: true}).decode(await file.arrayBuffer())
      if (text.includes('\0')) throw new TypeError('not a text')
      files.push({name: file.name, text, size: file.size})
    } catch {
      toast(t('fileNoText', {name: file.name}))
    }
  }
  showFiles()
  $('#question').focus()
}

function showFiles() {
  $('#files').hidden = !files.length
  $('#files').replaceChildren(...files.map((file, i) => el('li', {}, el('span', {}, file.name), el('span.faint', {}, bytes(file.size)),
    iconButton('cross', t('removeFile', {name: file.name}), () => {
      files.splice(i, 1)
      showFiles()
      $('#question').focus()
    }))))
  showButtons()
}

// ---- the server's models

async function findModels() {
  try {
    models = await api.models()
  } catch {
    models = [] // the strip says so
  }
  const names = models.map(model => model.id)
  if (!names.includes(store.choices.model)) store.choose({model: names[0] ?? ''})
  $('#model').replaceChildren(...names.map(name => el('option', {value: name}, name)))
  $('#model').value = store.choices.model
  $('#model').disabled = names.length < 2
  strip.watch(store.choices.model)
}

// ---- keys, buttons, and the beginning

function submit() {
  const text = $('#question').value.trim()
  if (!text && !files.length || runs.has(current.id)) return
  $('#question').value = ''
  grow($('#question'))
  ask(text)
}

function listen() {
  $('#composer').onsubmit = event => {
    event.preventDefault()
    submit()
  }
  $('#question').oninput = () => {
    grow($('#question'))
    showButtons()
  }
  $('#question').onkeydown = event => {
    if (event.isComposing) return // Enter chooses among Chinese characters
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault()
      submit()
    } else if (event.key === 'ArrowUp' && !$('#question').value) {
      const last = [...log.querySelectorAll('.user [data-action=edit]')].at(-1)
      if (last) {
        event.preventDefault()
        last.click()
      }
    }
  }
  document.onkeydown = event => {
    if (event.key !== 'Escape' || event.isComposing || document.querySelector('dialog[open]')) return
    if (document.body.classList.contains('listing')) {
      openSidebar(false)
      $('#menu-button').focus()
    } else {
      stop()
    }
  }
  $('#stop').onclick = stop
  $('#new').onclick = () => {
    newConversation()
    $('#question').focus()
  }
  $('#menu-button').onclick = () => openSidebar(true)
  $('#shade').onclick = () => openSidebar(false)
  matchMedia('(width < 48rem)').onchange = () => openSidebar(false)
  $('#settings-button').onclick = () => settings.open(current.settings, changed => {
    current.settings = changed
    store.choose({settings: changed})
    if (conversations.has(current.id)) keep(current)
  })
  $('#model').onchange = () => {
    store.choose({model: $('#model').value})
    strip.watch(store.choices.model)
  }
  $('#latest').onclick = toEnd
  log.onscroll = () => { $('#latest').hidden = atEnd() }
  $('#attach').onclick = () => $('#file').click()
  $('#file').onchange = () => {
    attach([...$('#file').files])
    $('#file').value = ''
  }
  $('#question').onpaste = event => {
    if (!event.clipboardData.files.length) return
    event.preventDefault()
    attach([...event.clipboardData.files])
  }
  document.ondragover = event => event.preventDefault()
  document.ondrop = event => {
    event.preventDefault()
    attach([...event.dataTransfer.files])
  }
  document.addEventListener('keyneeded', askKey, {once: true})
  store.watch(changedElsewhere)
}

async function translate() {
  await speak(store.choices.language)
  settings.page(async () => {
    await translate()
    showConversation(current)
  })
  strip.watch(store.choices.model)
}

settings.dress()
await translate()
listen()
for (const c of await store.load()) conversations.set(c.id, c)
if (!await store.keeps()) $('#kept').textContent = t('notKept')
newConversation()
$('#app').hidden = false
if (!matchMedia('(pointer: coarse)').matches) $('#question').focus() // elsewhere a keyboard would cover the page
await findModels()
