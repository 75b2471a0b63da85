package pipeline

import "encoding/binary"

// word and setWord read and write a word of a buffer that shaders share with the host.
func word(buf []byte, at int) uint32       { return binary.LittleEndian.Uint32(buf[at:]) }
func setWord(buf []byte, at int, w uint32) { binary.LittleEndian.PutUint32(buf[at:], w) }

func alignUp(n, align int64) int64 { return (n + align - 1) / align * align }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
