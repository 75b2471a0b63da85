package sample

import "slices"

// topK reorders c and returns its first k by candidate.before, in that order. It keeps a heap of the k best so far,
// with the worst of them at the root: over a vocabulary nearly every token costs one comparison.
func topK(c []candidate, k int) []candidate {
	if k < len(c) {
		heap := c[:k]
		for i := k/2 - 1; i >= 0; i-- {
			sinkWorst(heap, i)
		}
		for _, x := range c[k:] {
			if x.before(heap[0]) {
				heap[0] = x
				sinkWorst(heap, 0)
			}
		}
		c = heap
	}
	sortBest(c)
	return c
}

func sortBest(c []candidate) {
	slices.SortFunc(c, func(a, b candidate) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
}

// sinkWorst moves h[i] down to restore the heap, in which every parent comes after its children.
func sinkWorst(h []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child].before(h[child+1]) {
			child++
		}
		if !h[i].before(h[child]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// topP returns the fewest first candidates whose p sum to mass or more. If c is not sorted, it pops them from a heap,
// because a few hundred of a quarter of a million usually suffice.
func topP(c []candidate, mass float64, sorted bool) []candidate {
	if sorted {
		sum := 0.0
		for i := range c {
			if sum >= mass {
				return c[:i]
			}
			sum += c[i].p
		}
		return c
	}
	// The heap shrinks from the end of c, and popped candidates are stored after it: c ends as the rest, then the
	// popped ones in reverse.
	for i := len(c)/2 - 1; i >= 0; i-- {
		sinkBest(c, i)
	}
	n, sum := len(c), 0.0
	for n > 0 && (sum < mass || n == len(c)) {
		sum += c[0].p
		n--
		c[0], c[n] = c[n], c[0]
		sinkBest(c[:n], 0)
	}
	popped := c[n:]
	slices.Reverse(popped)
	return c[:copy(c, popped)]
}

// sinkBest moves h[i] down to restore the heap, in which every parent comes before its children.
func sinkBest(h []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].before(h[child]) {
			child++
		}
		if !h[child].before(h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
