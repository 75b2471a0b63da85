package pages

// An account is the pages of one group. The tree and each page table that names a page count as one reference each.
type account struct {
	refs []int32    // by page
	tree []*holding // by page: the tree's reference, nil if there is none
	free []int32    // pages without references, the last freed last

	// Pages to which only the tree refers, least recently used first.
	unused list
	passed list // of the local group: those that have left a window and are no end, so that they go first

	host     list    // what is in host memory, least recently used first
	freeHost []int32 // pages of host memory without content
}

// A holding is what the tree holds of a node's positions in one group.
type holding struct {
	node *node
	page int32 // on the device; 0 if it is not there
	host int32 // in host memory; noHost if it is not there
	end  bool  // seen from where a text is likely to be continued; matters for the local group

	list       *list // the list that it is in, nil if it is in none
	prev, next *holding
}

const noHost = -1

func (h *holding) empty() bool { return h.page == 0 && h.host == noHost }

func (a *account) init(pages, hostPages int) {
	a.refs = make([]int32, pages)
	a.tree = make([]*holding, pages)
	a.free = make([]int32, 0, pages)
	for page := pages - 1; page > 0; page-- {
		a.free = append(a.free, int32(page))
	}
	a.freeHost = make([]int32, 0, hostPages)
	for page := hostPages - 1; page >= 0; page-- {
		a.freeHost = append(a.freeHost, int32(page))
	}
	a.unused.init()
	a.passed.init()
	a.host.init()
}

// usable is how many pages there are without page 0.
func (a *account) usable() int { return len(a.refs) - 1 }

// available is how many pages are free or can be evicted.
func (a *account) available() int { return len(a.free) + a.unused.n + a.passed.n }

// take returns a free page with one reference. The caller has made room.
func (a *account) take() int32 {
	page := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	a.refs[page] = 1
	return page
}

// ref adds a page table's reference to a page that has references already.
func (a *account) ref(page int32) {
	if h := a.tree[page]; h != nil && h.list != nil {
		h.list.remove(h)
	}
	a.refs[page]++
}

// unref takes a reference away. A page to which only the tree refers afterwards goes to the end of l.
func (a *account) unref(page int32, l *list) {
	a.refs[page]--
	if a.refs[page] == 0 {
		a.free = append(a.free, page)
	} else if h := a.tree[page]; h != nil && a.refs[page] == 1 {
		l.push(h)
	}
}

// users is how many page tables name a page.
func (a *account) users(page int32) int32 {
	if a.tree[page] != nil {
		return a.refs[page] - 1
	}
	return a.refs[page]
}

// hold makes the tree refer to a page that a sequence has, as h, instead of what h may have in host memory.
func (a *account) hold(h *holding, page int32) {
	a.drop(h)
	h.page = page
	a.tree[page] = h
	a.refs[page]++
}

// drop takes away the tree's reference h and what it has in host memory.
func (a *account) drop(h *holding) {
	if h.list != nil {
		h.list.remove(h)
	}
	if h.page != 0 {
		a.tree[h.page] = nil
		a.unref(h.page, nil)
		h.page = 0
	}
	if h.host != noHost {
		a.freeHost = append(a.freeHost, h.host)
		h.host = noHost
	}
}

// A list is a doubly linked list of holdings, each of which is in one list at most.
type list struct {
	root holding // its next is the first holding, its prev the last
	n    int
}

func (l *list) init() { l.root.prev, l.root.next = &l.root, &l.root }

func (l *list) first() *holding { return l.root.next }

func (l *list) push(h *holding) {
	h.list, h.prev, h.next = l, l.root.prev, &l.root
	h.prev.next, h.next.prev = h, h
	l.n++
}

func (l *list) remove(h *holding) {
	h.prev.next, h.next.prev = h.next, h.prev
	h.list, h.prev, h.next = nil, nil, nil
	l.n--
}
