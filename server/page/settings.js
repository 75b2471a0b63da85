// The settings of a conversation and of the page, and the question for the API key. What is typed counts at once.

import {$, el} from './dom.js'
import * as store from './store.js'
import * as strip from './strip.js'
import {languages, number, t} from './words.js'

const form = () => $('#settings form')
const fields = () => [...form().elements].filter(e => e.name)

// open shows a conversation's settings, and calls changed with each new ones.
export function open(settings, changed) {
  const defaults = strip.sampling() ?? {}
  for (const field of fields()) {
    const value = settings[field.name]
    if (field.type === 'checkbox') field.checked = Boolean(value)
    else field.value = value ?? ''
    field.setCustomValidity('')
    if (field.type === 'number') field.placeholder = field.name in defaults ? number(defaults[field.name], 3) : t('byDefault')
  }
  form().oninput = ({target}) => {
    if (target.name === 'tools') target.setCustomValidity(fault(target.value))
    if (target.name && fields().every(field => field.checkValidity())) changed(read())
  }
  form().onchange = ({target}) => target.reportValidity()
  $('#reset').onclick = () => {
    changed({})
    open({}, changed)
  }
  if (!$('#settings').open) $('#settings').showModal()
}

function read() {
  const settings = {}
  for (const field of fields()) {
    if (field.type === 'checkbox') settings[field.name] = field.checked || undefined
    else if (field.type === 'number') settings[field.name] = field.value === '' ? undefined : field.valueAsNumber
    else settings[field.name] = field.value.trim() || undefined
  }
  return settings
}

// fault is why a text is no list of tools.
function fault(text) {
  if (!text.trim()) return ''
  try {
    const tools = JSON.parse(text)
    if (Array.isArray(tools) && tools.every(tool => tool?.function?.name)) return ''
  } catch {
    // said below
  }
  return t('toolsFault')
}

// page sets up the choice of language and theme. changed is called when another language is to be spoken.
export function page(changed) {
  $('#language').replaceChildren(el('option', {value: ''}, t('asSystem')),
    ...Object.entries(languages).map(([tag, name]) => el('option', {value: tag, lang: tag}, name)))
  $('#language').value = store.choices.language
  $('#theme').value = store.choices.theme
  $('#language').onchange = ({target}) => {
    store.choose({language: target.value})
    changed()
  }
  $('#theme').onchange = ({target}) => {
    store.choose({theme: target.value})
    dress()
  }
}

// dress puts the chosen colours on.
export function dress() {
  document.documentElement.dataset.theme = store.choices.theme
}

// askKey asks for the API key, and reports whether there is another one now.
export function askKey() {
  const dialog = $('#key'), form = dialog.querySelector('form')
  if (dialog.open) return Promise.resolve(false)
  form.elements.key.value = ''
  $('#key-close').onclick = () => dialog.close('')
  dialog.returnValue = ''
  dialog.showModal()
  return new Promise(resolve => {
    dialog.addEventListener('close', () => {
      const saved = dialog.returnValue === 'save'
      if (saved) store.setAPIKey(form.elements.key.value.trim())
      form.elements.key.value = ''
      resolve(saved)
    }, {once: true})
  })
}
