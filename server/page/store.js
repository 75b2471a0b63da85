// What the browser keeps: conversations in IndexedDB, choices in localStorage, the API key in sessionStorage, which ends with the
// tab. Where a browser refuses to keep anything, the page works until it is closed.

const database = new Promise(resolve => {
  const request = indexedDB.open('pumice', 1)
  request.onupgradeneeded = () => request.result.createObjectStore('conversations', {keyPath: 'id'})
  request.onsuccess = () => resolve(request.result)
  request.onerror = () => resolve(null)
}).catch(() => null)

// transact calls use with the conversations, and returns what its request finds.
async function transact(mode, use) {
  const db = await database
  if (!db) return undefined
  return new Promise((resolve, reject) => {
    const transaction = db.transaction('conversations', mode)
    const request = use(transaction.objectStore('conversations'))
    transaction.oncomplete = () => resolve(request.result)
    transaction.onerror = transaction.onabort = () => reject(transaction.error)
  })
}

export const keeps = async () => await database !== null
export const load = async () => await transact('readonly', all => all.getAll()) ?? []
export const get = id => transact('readonly', all => all.get(id))

// tabs tells the other tabs of a conversation that has changed, by its id.
const tabs = new BroadcastChannel('pumice')

export const watch = changed => { tabs.onmessage = ({data}) => changed(data) }

export async function save(conversation) {
  await transact('readwrite', all => all.put(conversation))
  tabs.postMessage(conversation.id)
}

export async function remove(id) {
  await transact('readwrite', all => all.delete(id))
  tabs.postMessage(id)
}

function kept(storage, key) {
  try {
    return JSON.parse(window[storage].getItem(key)) ?? undefined
  } catch {
    return undefined
  }
}

function keep(storage, key, value) {
  try {
    window[storage].setItem(key, JSON.stringify(value))
  } catch {
    // the browser keeps nothing, or has no room: the choice lasts until the page is closed
  }
}

// choices are the user's: language, theme, model, and the settings of the last conversation.
export const choices = {language: '', theme: '', model: '', settings: {}, ...kept('localStorage', 'pumice')}

export function choose(changes) {
  Object.assign(choices, changes)
  keep('localStorage', 'pumice', choices)
}

let key = kept('sessionStorage', 'pumice-key') ?? ''

export const apiKey = () => key

export function setAPIKey(value) {
  key = value
  keep('sessionStorage', 'pumice-key', value)
}
