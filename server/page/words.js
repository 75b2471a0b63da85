// The page's words, in the language that the user chose or that the browser asks for.

export const languages = {en: 'English', zh: '中文'}

let words = {}

// speak loads a language: 'en', 'zh', or '' for the browser's. It fills in the parts of index.html that name a word.
export async function speak(language) {
  language ||= navigator.languages.map(tag => tag.slice(0, 2)).find(tag => tag in languages) ?? 'en'
  const response = await fetch(new URL(`${language}.json`, import.meta.url))
  words = await response.json()
  document.documentElement.lang = language
  for (const e of document.querySelectorAll('[data-text]')) e.textContent = t(e.dataset.text)
  for (const e of document.querySelectorAll('[data-label]')) {
    e.setAttribute('aria-label', t(e.dataset.label))
    if (e.matches('button')) e.title = t(e.dataset.label)
  }
  for (const e of document.querySelectorAll('[data-placeholder]')) e.placeholder = t(e.dataset.placeholder)
}

// t is a word or a sentence, with the values that it has places for: t('contextUsed', {n: 7, all: 9}).
export const t = (key, values = {}) =>
  words[key].replace(/\{(\w+)\}/g, (_, name) => typeof values[name] === 'number' ? number(values[name]) : values[name])

// number spells a number with at most so many digits after the point.
export const number = (value, digits = 1) =>
  new Intl.NumberFormat(document.documentElement.lang, {maximumFractionDigits: digits}).format(value)

export const percent = value =>
  new Intl.NumberFormat(document.documentElement.lang, {style: 'percent', maximumSignificantDigits: value < 0.1 ? 2 : 3}).format(value)

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

export function bytes(value) {
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${number(value, value < 100 ? 1 : 0)} ${units[unit]}`
}
