// The probabilities of an answer's tokens, on its text: under the pointer, or with the arrow keys.

import {$, announce, el} from './dom.js'
import {percent, t} from './words.js'

// reach is how far ahead in the tokens a character of the text is looked for: marks of Markdown are in between.
const reach = 200

// annotate wraps each piece of a text in a span of the token that it comes from. The text is what Markdown leaves of the tokens: the
// same characters in the same order, without some.
export function annotate(element, tokens) {
  const source = tokens.map(token => token.text).join('')
  const owner = tokens.flatMap((token, i) => Array(token.text.length).fill(i))
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT,
    node => node.parentElement.closest('.code-head') ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT)
  const texts = []
  while (walker.nextNode()) texts.push(walker.currentNode)
  let at = 0
  for (const node of texts) {
    const pieces = []
    for (const c of node.data) {
      const found = source.slice(at, at + reach).indexOf(c)
      if (found >= 0) at += found
      const token = found >= 0 ? owner[at] : undefined
      if (found >= 0) at += c.length
      if (pieces.length && pieces.at(-1).token === token) pieces.at(-1).text += c
      else pieces.push({token, text: c})
    }
    const spans = document.createDocumentFragment()
    for (const {token, text} of pieces) spans.append(token === undefined ? text : span(tokens[token], token, text))
    node.replaceWith(spans)
  }
}

function span(token, index, text) {
  const p = Math.exp(token.logprob)
  return el(`span.token.${p < 0.1 ? 'rare' : p < 0.5 ? 'unlikely' : 'likely'}`, {'data-token': index}, text)
}

// visible shows what a token is made of where that can't be seen.
const visible = text => text.replaceAll('\n', '↵').replaceAll('\t', '⇥').replace(/^ | $/g, '␣') || '∅'

const chosen = token => token.top.some(([text]) => text === token.text) ? token.top : [...token.top, [token.text, token.logprob]]

// explain shows a token's probability and those of the likeliest in its place, near its text.
function explain(element, token) {
  const tip = $('#tip')
  tip.replaceChildren(...chosen(token).map(([text, logprob]) => {
    const bar = el('span.bar')
    bar.style.inlineSize = `${100 * Math.exp(logprob)}%`
    return el(text === token.text ? 'div.row.chosen' : 'div.row', {}, el('code', {}, visible(text)), el('span.track', {}, bar),
      el('span.value', {}, percent(Math.exp(logprob))))
  }))
  tip.hidden = false
  const box = element.getClientRects()[0] ?? element.getBoundingClientRect()
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8
  tip.style.left = `${Math.max(8, Math.min(box.left, room))}px`
  tip.style.top = `${box.top - tip.offsetHeight - 6 > 0 ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`
}

export function hide() {
  $('#tip').hidden = true
  $('.token.current')?.classList.remove('current')
}

function current(element, tokens) {
  hide()
  const token = tokens[element.dataset.token]
  element.classList.add('current')
  explain(element, token)
  return token
}

// watch shows the probabilities of an annotated element's tokens on request.
export function watch(element, tokens) {
  element.addEventListener('pointerover', event => {
    const over = event.target.closest('.token')
    if (over) current(over, tokens)
    else hide()
  })
  element.addEventListener('pointerleave', hide)
  element.addEventListener('blur', hide)
  element.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key]
    if (!step || event.target !== element) return
    event.preventDefault()
    const all = [...element.querySelectorAll('.token')], now = all.indexOf(element.querySelector('.token.current'))
    const next = all[now < 0 ? (step > 0 ? 0 : all.length - 1) : now + step]
    if (!next) return
    const token = current(next, tokens)
    next.scrollIntoView({block: 'nearest'})
    announce(chosen(token).map(([text, logprob]) => `${visible(text)} ${percent(Math.exp(logprob))}`).join(', '))
  })
}

// label is what a screen reader says of an element whose tokens the arrow keys walk through.
export const label = () => t('tokensLabel')
