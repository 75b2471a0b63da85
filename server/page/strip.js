// The strip at the foot: what the server is doing now.

import * as api from './api.js'
import {$, el} from './dom.js'
import {bytes, number, t} from './words.js'

const often = 1000, seldom = 5000 // ms between looks, while answers come and else

let busy = false, timer, last, properties, model = ''

// watch looks at a model of the server from now on, for as long as somebody sees the page.
export function watch(name) {
  if (name !== model) {
    properties = last = undefined
    model = name
  }
  clearTimeout(timer)
  look()
}

// hurry says whether answers are coming.
export function hurry(now) {
  if (now !== busy) {
    busy = now
    watch(model)
  }
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) watch(model)
})

async function look() {
  clearTimeout(timer)
  if (!model) return
  const asked = model
  try {
    const metrics = await api.metrics(model)
    // Asking for the properties loads a model, and keeps it loaded: once is enough, and only of one that is.
    if (metrics) properties ??= await api.properties(model)
    if (asked === model) show(metrics)
  } catch (error) {
    if (asked === model) fail(error)
  }
  clearTimeout(timer)
  if (!document.hidden) timer = setTimeout(look, busy ? often : seldom)
}

function fail(error) {
  last = undefined
  if (error.kind === 'key') document.dispatchEvent(new Event('keyneeded'))
  const words = {gone: t('stateGone'), key: t('stateKey')}
  $('#strip').replaceChildren(entry('state', words[error.kind] ?? t('stateFailed'), 'bad'))
}

function show(metrics) {
  if (!metrics) {
    last = undefined
    $('#strip').replaceChildren(entry('state', t('stateUnloaded'), 'idle'))
    return
  }
  const now = {time: performance.now(), tokens: metrics['llamacpp:tokens_predicted_total']}
  const rate = last ? Math.max(0, (now.tokens - last.tokens) / (now.time - last.time) * 1000) : 0
  last = now
  const working = metrics['llamacpp:requests_processing'], waiting = metrics['llamacpp:requests_deferred']
  const used = metrics.pumice_cache_pages_in_use, all = used + metrics.pumice_cache_pages_free + (metrics.pumice_cache_pages_cached ?? 0)
  const devices = properties?.devices ?? []
  const entries = [
    entry('state', t(working ? 'stateWorking' : 'stateReady'), working ? 'working' : 'ready'),
    entry('speed', t('perSecond', {n: number(rate)})),
    entry('queue', number(waiting)),
  ]
  if (all) entries.push(entry('pages', t('of', {n: number(used), all: number(all)}))) // none are there before the first question
  if (properties?.memory) {
    const total = devices.reduce((sum, device) => sum + device.memory_total, 0)
    entries.push(entry('memory', t('of', {n: bytes(properties.memory.total_bytes), all: bytes(total)})))
  }
  if (devices.length) entries.push(entry('device', devices.map(device => device.name).join(', ')))
  $('#strip').replaceChildren(...entries)
}

const entry = (name, value, mark) =>
  el(`div.${name}`, {title: t(`${name}Title`)}, el('dt', {}, t(name)), el(mark ? `dd.${mark}` : 'dd', {}, value))

// contextOf is how many tokens the model holds, and sampling how it samples if nobody says otherwise; undefined until that is known.
export const contextOf = () => properties?.default_generation_settings.n_ctx
export const sampling = () => properties?.default_generation_settings.params
