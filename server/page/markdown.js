// Markdown to nodes: what models write of CommonMark and GitHub's tables. The text is a stranger's: it makes no other elements than
// those below, links lead to the web or to mail alone, nothing is fetched, and time is linear in its length. Formulas stay text.

import {copy, el, iconButton} from './dom.js'
import {t} from './words.js'

const maxDepth = 10  // of lists and quotes in one another; what is deeper is text
const maxMarks = 24  // of emphasis and links that are open at a time; more are text
const maxColumns = 64

// update shows a text in an element. Blocks that are as they were keep their nodes, so that a growing answer costs what is new.
export function update(element, text) {
  const shown = element.blocks ?? []
  element.blocks = [...blocks(text.split('\n'))].map((block, i) => {
    if (shown[i]?.source === block.source) return shown[i]
    const node = block.render(0)
    if (shown[i]) shown[i].node.replaceWith(node)
    else element.append(node)
    return {source: block.source, node}
  })
  for (const {node} of shown.slice(element.blocks.length)) node.remove()
}

// ---- blocks

const blank = line => !line.trim()
const indentOf = line => line.length - line.trimStart().length
const fenceOf = line => line.match(/^ {0,3}(`{3,}|~{3,}) *([^`]*)$/)
const isHeading = line => /^ {0,3}#{1,6}(?: |$)/.test(line)
const isRule = line => line.length < 200 && /^ {0,3}([-*_])(?: *\1){2,} *$/.test(line)
const isQuote = line => /^ {0,3}>/.test(line)
const itemOf = line => line.match(/^( *)([-*+]|\d{1,9}[.)])(?: +|$)/)
const isDelimiter = line => line.length < 1000 && line.includes('-') && /^ *\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/.test(line)
const isTable = (lines, i) => lines[i].includes('|') && i + 1 < lines.length && isDelimiter(lines[i + 1]) &&
  cells(lines[i]).length === cells(lines[i + 1]).length

// begins reports whether a line ends the paragraph before it. A list does only if it begins with 1, so that a wrapped "in\n1999. The"
// is none.
const begins = (lines, i) => fenceOf(lines[i]) || isHeading(lines[i]) || isRule(lines[i]) || isQuote(lines[i]) || isTable(lines, i) ||
  /^ *(?:[-*+]|1[.)]) +\S/.test(lines[i])

// blocks yields a text's blocks: their source, and render, which makes the node of one at a depth.
function* blocks(lines) {
  for (let i = 0; i < lines.length;) {
    if (blank(lines[i])) {
      i++
      continue
    }
    const [end, render] = block(lines, i)
    yield {source: lines.slice(i, end).join('\n'), render}
    i = end
  }
}

// block finds the block that begins at a line: where it ends, and how it is rendered.
function block(lines, from) {
  const line = lines[from]
  let end = from + 1
  const fence = fenceOf(line)
  if (fence) {
    const [, mark, language] = fence, indent = indentOf(line)
    const closes = l => l.trim().length >= mark.length && [...l.trim()].every(c => c === mark[0]) && indentOf(l) < 4
    while (end < lines.length && !closes(lines[end])) end++
    const text = lines.slice(from + 1, end).map(l => l.slice(Math.min(indent, indentOf(l)))).join('\n')
    return [Math.min(end + 1, lines.length), () => code(language.trim().split(' ')[0], text)]
  }
  if (isHeading(line)) {
    const text = line.trim(), level = text.match(/^#+/)[0].length
    // The page's own headings are above those of answers.
    return [end, () => el(`h${Math.min(6, level + 2)}`, {}, inline(text.slice(level).trim().replace(/ #+$/, '')))]
  }
  if (isRule(line)) return [end, () => el('hr')]
  if (isQuote(line)) {
    while (end < lines.length && isQuote(lines[end])) end++
    const inner = lines.slice(from, end).map(l => l.replace(/^ {0,3}> ?/, ''))
    return [end, depth => el('blockquote', {}, nested(inner, depth))]
  }
  if (isTable(lines, from)) {
    end = from + 2
    while (end < lines.length && lines[end].includes('|') && !blank(lines[end])) end++
    return [end, () => table(lines.slice(from, end))]
  }
  if (itemOf(line)) return list(lines, from)
  while (end < lines.length && !blank(lines[end]) && !begins(lines, end)) end++
  return [end, () => el('p', {}, inline(lines.slice(from, end).map(l => l.trimStart()).join('\n')))]
}

// nested renders the lines inside a quote or an item.
function nested(lines, depth, tight = false) {
  if (depth >= maxDepth) return [lines.join('\n')]
  return [...blocks(lines)].flatMap((block, i) => {
    const node = block.render(depth + 1)
    return tight && i === 0 && node.tagName === 'P' ? [...node.childNodes] : [node]
  })
}

function code(language, text) {
  const button = iconButton('copy', t('copyCode'), async () => {
    await copy(text)
    button.classList.add('done')
    setTimeout(() => button.classList.remove('done'), 1500)
  })
  const label = language ? t('codeIn', {language}) : t('code')
  return el('div.code', {}, el('div.code-head', {}, el('span', {}, language), button),
    el('pre', {tabindex: 0, role: 'group', 'aria-label': label}, el('code', {}, text)))
}

// cells are those of a table's row. A bar after a backslash is text.
const cells = line => {
  const row = line.trim().replace(/^\|/, '').replace(/\|$/, '')
  return row.split(/(?<!\\)\|/, maxColumns).map(cell => cell.trim().replaceAll('\\|', '|'))
}

function table([head, delimiter, ...rows]) {
  const align = cells(delimiter).map(cell => cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'end') : null)
  const row = (tag, line) => {
    const texts = cells(line)
    return el('tr', {}, align.map((side, i) => el(side ? `${tag}.${side}` : tag, tag === 'th' ? {scope: 'col'} : {}, inline(texts[i] ?? ''))))
  }
  return el('div.table', {tabindex: 0, role: 'group', 'aria-label': t('table')},
    el('table', {}, el('thead', {}, row('th', head)), el('tbody', {}, rows.map(line => row('td', line)))))
}

// list finds the items of a list. Models indent by less than CommonMark wants: two columns more than the list's make an item of an
// inner list.
function list(lines, from) {
  const [, margin, mark] = itemOf(lines[from]), kind = mark.at(-1)
  const items = []
  let loose = false, end = from
  for (let i = from, width = 0; i < lines.length; i++) {
    const line = lines[i], item = itemOf(line), indent = indentOf(line)
    if (blank(line)) {
      if (i + 1 < lines.length) items.at(-1).push('')
      continue
    }
    if (item && indent < margin.length + 2) {
      if (item[2].at(-1) !== kind || isRule(line)) break
      loose ||= items.length > 0 && items.at(-1).at(-1) === ''
      width = item[2].length + indent + 1
      items.push([line.slice(item[0].length)])
    } else if (indent >= margin.length + 2) {
      items.at(-1).push(line.slice(Math.min(indent, width)))
    } else if (blank(lines[i - 1]) || begins(lines, i)) {
      break
    } else {
      items.at(-1).push(line) // goes on with the item's paragraph
    }
    end = i + 1
  }
  const start = parseInt(mark)
  return [end, depth => el(mark.length > 1 ? 'ol' : 'ul', {start: mark.length > 1 && start !== 1 ? start : null},
    items.map(item => el('li', {}, nested(task(item), depth, !loose))))]
}

// task shows the box of an item such as "[x] done".
function task([first, ...rest]) {
  const box = first.match(/^\[([ xX])\] /)
  return box ? [(box[1] === ' ' ? '☐ ' : '☑ ') + first.slice(4), ...rest] : [first, ...rest]
}

// ---- inside a block

const special = /[\\`*_~[\]!<\n$]|https?:\/\//g
// Between $$, single $ with no space inside and no digit after, \( \) or \[ \].
const mathematics = /\$\$[^$]{1,2000}\$\$|\$(?![\s$])[^$\n]{0,500}(?<![\s\\])\$(?!\d)|\\\((?:[^\\\n]|\\[^()]){1,1000}\\\)|\\\[(?:[^\\]|\\[^[\]]){1,2000}\\\]/y
const bracketed = /<(https?:\/\/[^\s<>]{1,2000}|[\w.+-]{1,64}@[\w.-]{1,255})>/y
const bare = /https?:\/\/[!#-;=?-Z^_a-~]{1,2000}/y
// The address of a link, in angle brackets or with balanced parentheses, and a title, which is not shown.
const destination = /\( {0,3}(?:<([^<>\n]{0,2000})>|([^\s()<]{0,2000}(?:\([^\s()]{0,500}\)[^\s()]{0,500}){0,4}))(?:\s{1,3}(?:"[^"]{0,500}"|'[^']{0,500}'))? {0,3}\)/y
const lineBreak = /<br ?\/?>/iy
const letter = /[\p{L}\p{N}]/u
const punctuation = /[!-/:-@[-`{-~]/

function matchAt(pattern, text, at) {
  pattern.lastIndex = at
  return pattern.exec(text)
}

// inline makes nodes and strings of a block's text. Marks that may begin something are kept on a stack with what follows them; what
// ends one makes an element of that, and marks in between are text.
function inline(text) {
  const stack = [{items: []}], open = {'[': 0, '*': 0, '_': 0, '~': 0, 'none': 0}
  const put = item => stack.at(-1).items.push(item)
  const push = (kind, mark) => {
    if (stack.length > maxMarks) return put(mark)
    open[kind]++
    stack.push({kind, mark, items: []})
  }
  // find returns the last open mark of a kind, after those above it have become text.
  const find = kind => {
    if (!open[kind]) return null
    while (stack.at(-1).kind !== kind) flatten()
    return stack.at(-1)
  }
  const flatten = () => {
    const {kind, mark, items} = stack.pop()
    open[kind]--
    put(mark)
    for (const item of items) put(item)
  }
  const backticks = runs(text)

  let at = 0
  while (at < text.length) {
    special.lastIndex = at
    const from = special.exec(text)?.index ?? text.length
    if (from > at) put(text.slice(at, from))
    if (from === text.length) break
    at = from + 1
    const c = text[from]
    let match
    if ((c === '$' || c === '\\') && (match = matchAt(mathematics, text, from))) {
      put(el('span.math', {}, match[0]))
      at = mathematics.lastIndex
    } else if (c === '\\' && punctuation.test(text[at] ?? '')) {
      put(text[at++])
    } else if (c === '\n' || c === '\\' && text[at] === '\n') {
      if (c === '\n') put(el('br'))
    } else if (c === '<' && (match = matchAt(lineBreak, text, from))) {
      put(el('br'))
      at = lineBreak.lastIndex
    } else if (c === '<' && (match = matchAt(bracketed, text, from))) {
      put(link(match[1].includes('://') ? match[1] : `mailto:${match[1]}`, [match[1]]) ?? match[0])
      at = bracketed.lastIndex
    } else if (c === 'h') {
      const url = matchAt(bare, text, from)?.[0].replace(/[.,:;!?'*_~)]{1,20}$/, '') ?? ''
      const made = !open['['] && !letter.test(text[from - 1] ?? '') && link(url, [url])
      put(made || 'http')
      at = from + (made ? url.length : 4)
    } else if (c === '`') {
      const length = backticks.lengthAt(from), close = backticks.next(from + length, length)
      at = from + length
      if (close < 0) {
        put(text.slice(from, at))
      } else {
        const inner = text.slice(at, close).replaceAll('\n', ' ')
        put(el('code', {}, /^ .*[^ ].* $/.test(inner) ? inner.slice(1, -1) : inner))
        at = close + length
      }
    } else if (c === '[' || c === '!' && text[at] === '[') {
      if (c === '!') at++
      push('[', text.slice(from, at))
    } else if (c === ']') {
      const target = open['['] && matchAt(destination, text, at), opener = find('[')
      const made = target && link(target[1] ?? target[2], opener.items)
      if (made) {
        stack.pop()
        for (const outer of stack) {
          if (outer.kind === '[') outer.kind = 'none' // no link in a link
        }
        open['['] = 0
        put(made)
        at = destination.lastIndex
      } else {
        if (opener) flatten()
        put(']')
      }
    } else if (c === '*' || c === '_' || c === '~') {
      while (text[at] === c) at++
      emphasis(c, at - from, text[from - 1] ?? ' ', text[at] ?? ' ')
    } else {
      put(c)
    }
  }
  while (stack.length > 1) flatten()
  return stack[0].items

  // emphasis handles a run of n marks between two characters. Unlike CommonMark's, a run of asterisks may end beside punctuation:
  // Chinese has no spaces there.
  function emphasis(c, n, before, after) {
    const apart = c === '_'
    const begins = !/\s/.test(after) && !(apart && letter.test(before)) && (c !== '~' || n === 2)
    const ends = !/\s/.test(before) && !(apart && letter.test(after)) && (c !== '~' || n === 2)
    while (ends && n > 0 && open[c]) {
      const opener = find(c), used = Math.min(n, opener.mark.length, 2)
      const made = el(c === '~' ? 's' : used === 2 ? 'strong' : 'em', {}, opener.items)
      n -= used
      opener.mark = opener.mark.slice(used)
      opener.items = [made]
      if (!opener.mark) {
        open[c]--
        stack.pop()
        put(made)
      }
    }
    if (n > 0 && begins) push(c, c.repeat(n))
    else if (n > 0) put(c.repeat(n))
  }
}

// runs finds the runs of backticks of a text, each looked at once.
function runs(text) {
  const at = new Map(), byLength = new Map()
  for (const {0: run, index} of text.matchAll(/`+/g)) {
    at.set(index, run.length)
    if (!byLength.has(run.length)) byLength.set(run.length, {list: [], next: 0})
    byLength.get(run.length).list.push(index)
  }
  return {
    // lengthAt is that of the run at a place, or of what a backslash has left of it.
    lengthAt(from) {
      return at.get(from) ?? text.slice(from).match(/^`+/)[0].length
    },
    // next is where the next run of a length begins, or -1. It is asked for places that grow.
    next(from, length) {
      const of = byLength.get(length)
      while (of && of.list[of.next] < from) of.next++
      return of?.list[of.next] ?? -1
    },
  }
}

// link is null for an address that is no one's to follow.
function link(address, children) {
  let url
  try {
    url = new URL(address)
  } catch {
    return null
  }
  if (!['http:', 'https:', 'mailto:'].includes(url.protocol)) return null
  return el('a', {href: url.href, title: url.href, target: '_blank', rel: 'noopener noreferrer'}, children.length ? children : [address])
}
