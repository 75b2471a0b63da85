// Building the page out of nodes. Texts of models and users are strangers: they become text nodes, never markup.

// el makes an element: el('button.quiet', {type: 'button', onclick: stop}, 'Stop'). Attributes that are false, null or undefined
// are left out, and so are such children.
export function el(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split('.')
  const e = document.createElement(tag)
  if (classes.length) e.className = classes.join(' ')
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value)
    else e.setAttribute(key, value === true ? '' : value)
  }
  for (const child of children.flat()) {
    if (child !== false && child != null) e.append(child)
  }
  return e
}

// icon is a drawing of index.html.
export function icon(name) {
  const space = 'http://www.w3.org/2000/svg'
  const svg = document.createElementNS(space, 'svg'), use = document.createElementNS(space, 'use')
  svg.setAttribute('class', 'icon')
  svg.setAttribute('aria-hidden', 'true')
  use.setAttribute('href', `#draw-${name}`)
  svg.append(use)
  return svg
}

// iconButton is a button that shows a drawing and says label.
export const iconButton = (name, label, onclick, attributes = {}) =>
  el('button.quiet', {type: 'button', title: label, 'aria-label': label, onclick, ...attributes}, icon(name))

export const $ = selector => document.querySelector(selector)

// announce has a screen reader say a text when it is free.
export function announce(text) {
  $('#announcer').textContent = text
}

// copy puts a text on the clipboard. Pages that come over plain HTTP from another machine have to do it the old way.
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const area = el('textarea.hidden')
  area.value = text
  document.body.append(area)
  area.select()
  document.execCommand('copy')
  area.remove()
}

// grow makes a text field as high as its text; the style sheet bounds it.
export function grow(area) {
  area.style.height = 'auto'
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`
}
