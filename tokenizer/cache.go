package tokenizer

import "hash/maphash"

// wordCache remembers the tokens of short words. It is direct-mapped, has 2 MiB with one cache
// line per slot and no pointers. One encoder at a time uses it.
type wordCache struct {
	seed  maphash.Seed
	slots []cacheSlot
}

const (
	cacheSlots  = 1 << 15
	cacheKeyMax = 30
	cacheIDsMax = 8
)

type cacheSlot struct {
	keyLen, n uint8 // n is 0 in an empty slot
	key       [cacheKeyMax]byte
	ids       [cacheIDsMax]int32
}

func newWordCache() *wordCache {
	return &wordCache{seed: maphash.MakeSeed(), slots: make([]cacheSlot, cacheSlots)}
}

// lookup returns the tokens of word, valid until the next store, and the slot in which to
// store them. The slot is nil for a word that is too long.
func (c *wordCache) lookup(word []byte) ([]int32, *cacheSlot) {
	if len(word) > cacheKeyMax {
		return nil, nil
	}
	s := &c.slots[maphash.Bytes(c.seed, word)%cacheSlots]
	if s.n != 0 && string(s.key[:s.keyLen]) == string(word) {
		return s.ids[:s.n], s
	}
	return nil, s
}

func (s *cacheSlot) store(word []byte, ids []int32) {
	if s == nil || len(ids) == 0 || len(ids) > cacheIDsMax {
		return
	}
	s.keyLen, s.n = uint8(copy(s.key[:], word)), uint8(copy(s.ids[:], ids))
}
