package checkpoint

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strings"
)

// Zip archives are read here and not by archive/zip, because their entries are
// mapped, not streamed, and because the directory is not trusted: the number
// of entries, their names and their ranges are checked before anything is built
// from them. Layouts: APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16, 4.5.3.

const (
	maxZipEntries = 1 << 17
	maxZipName    = 1 << 10
)

// zipEntry is one uncompressed file in an archive.
type zipEntry struct {
	name   string
	crc    uint32
	offset int64 // offset of data in the archive
	data   []byte

	header int64 // offset of the local header
}

// parseZip returns the entries of an archive, all of which must be stored
// without compression.
func parseZip(ctx context.Context, file string, data []byte) (map[string]*zipEntry, error) {
	d, err := findZipDirectory(file, data)
	if err != nil {
		return nil, err
	}
	entries := map[string]*zipEntry{}
	var order []*zipEntry
	pos := d.offset
	for range d.count {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, next, err := parseZipEntry(file, data, pos, d)
		if err != nil {
			return nil, err
		}
		if entries[e.name] != nil {
			return nil, badFormat(file, pos, "zip entry %q appears twice", e.name)
		}
		entries[e.name] = e
		order = append(order, e)
		pos = next
	}
	if pos != d.offset+d.size {
		return nil, badFormat(file, pos, "the zip directory is %d bytes longer than its entries", d.offset+d.size-pos)
	}
	slices.SortFunc(order, func(a, b *zipEntry) int { return cmp.Compare(a.header, b.header) })
	for i := 1; i < len(order); i++ {
		if p := order[i-1]; p.offset+int64(len(p.data)) > order[i].header {
			return nil, badFormat(file, order[i].header, "zip entries %q and %q overlap", p.name, order[i].name)
		}
	}
	return entries, nil
}

// zipDirectory is the position and size of the central directory.
type zipDirectory struct {
	offset, size int64
	count        int
}

// findZipDirectory reads the end-of-central-directory record, and its 64-bit
// form if there is one.
func findZipDirectory(file string, data []byte) (zipDirectory, error) {
	const endBytes, locatorBytes, end64Bytes = 22, 20, 56
	from := max(0, len(data)-endBytes-0xffff)
	end := -1
	for at := len(data); at > from; {
		at = from + bytes.LastIndex(data[from:at], []byte("PK\x05\x06"))
		if at < from {
			break
		}
		if at+endBytes <= len(data) && at+endBytes+int(binary.LittleEndian.Uint16(data[at+20:])) == len(data) {
			end = at
			break
		}
	}
	if end < 0 {
		return zipDirectory{}, badFormat(file, int64(len(data)), "no zip directory at the end: the file is cut off"+incomplete)
	}
	r := data[end:]
	disk, diskStart := uint32(binary.LittleEndian.Uint16(r[4:])), uint32(binary.LittleEndian.Uint16(r[6:]))
	here, count := uint64(binary.LittleEndian.Uint16(r[8:])), uint64(binary.LittleEndian.Uint16(r[10:]))
	size, offset := uint64(binary.LittleEndian.Uint32(r[12:])), uint64(binary.LittleEndian.Uint32(r[16:]))
	limit := end // the directory ends before this
	if l := end - locatorBytes; l >= 0 && string(data[l:l+4]) == "PK\x06\x07" {
		at := binary.LittleEndian.Uint64(data[l+8:])
		if l < end64Bytes || at > uint64(l-end64Bytes) || string(data[at:at+4]) != "PK\x06\x06" {
			return zipDirectory{}, badFormat(file, int64(l), "no zip64 directory record at byte %d", at)
		}
		r = data[at:]
		disk, diskStart = binary.LittleEndian.Uint32(r[16:]), binary.LittleEndian.Uint32(r[20:])
		here, count = binary.LittleEndian.Uint64(r[24:]), binary.LittleEndian.Uint64(r[32:])
		size, offset = binary.LittleEndian.Uint64(r[40:]), binary.LittleEndian.Uint64(r[48:])
		limit = int(at)
	}
	if disk != 0 || diskStart != 0 || here != count {
		return zipDirectory{}, &UnsupportedError{file, "a zip archive in several volumes"}
	}
	if offset > uint64(limit) || size > uint64(limit)-offset {
		return zipDirectory{}, badFormat(file, int64(end), "zip directory of %d bytes at byte %d, outside the file", size, offset)
	}
	if count > maxZipEntries || count > size/46 {
		return zipDirectory{}, badFormat(file, int64(end), "%d zip entries in a directory of %d bytes", count, size)
	}
	return zipDirectory{int64(offset), int64(size), int(count)}, nil
}

// parseZipEntry reads the entry's header in the directory at pos and returns the
// position after it. Sizes in the local header are ignored: torch writes them
// after the data.
func parseZipEntry(file string, data []byte, pos int64, d zipDirectory) (*zipEntry, int64, error) {
	h := data[pos : d.offset+d.size]
	if len(h) < 46 || string(h[:4]) != "PK\x01\x02" {
		return nil, 0, badFormat(file, pos, "no zip directory header")
	}
	flags, method := binary.LittleEndian.Uint16(h[8:]), binary.LittleEndian.Uint16(h[10:])
	crc := binary.LittleEndian.Uint32(h[16:])
	packed, size := uint64(binary.LittleEndian.Uint32(h[20:])), uint64(binary.LittleEndian.Uint32(h[24:]))
	nameLen, extraLen := int(binary.LittleEndian.Uint16(h[28:])), int(binary.LittleEndian.Uint16(h[30:]))
	commentLen := int(binary.LittleEndian.Uint16(h[32:]))
	header := uint64(binary.LittleEndian.Uint32(h[42:]))
	total := 46 + nameLen + extraLen + commentLen
	if total > len(h) || nameLen > maxZipName {
		return nil, 0, badFormat(file, pos, "zip directory header of %d bytes with a name of %d", total, nameLen)
	}
	name := string(h[46 : 46+nameLen])
	if err := checkZipName(file, pos, name); err != nil {
		return nil, 0, err
	}
	if !zip64Extra(h[46+nameLen:46+nameLen+extraLen], &size, &packed, &header) {
		return nil, 0, badFormat(file, pos, "zip entry %q: malformed 64-bit sizes", name)
	}
	switch {
	case flags&1 != 0:
		return nil, 0, &UnsupportedError{file, "encrypted zip entry " + quote(name)}
	case method != 0:
		return nil, 0, &UnsupportedError{file, "compressed zip entry " + quote(name)}
	case packed != size:
		return nil, 0, badFormat(file, pos, "zip entry %q: %d bytes stored as %d", name, size, packed)
	case header > uint64(d.offset) || uint64(d.offset)-header < 30:
		return nil, 0, badFormat(file, pos, "zip entry %q: header at byte %d, outside the file", name, header)
	}
	local := data[header:d.offset]
	if string(local[:4]) != "PK\x03\x04" {
		return nil, 0, badFormat(file, int64(header), "zip entry %q: no local header", name)
	}
	localName := int(binary.LittleEndian.Uint16(local[26:]))
	start := 30 + localName + int(binary.LittleEndian.Uint16(local[28:]))
	if start > len(local) || string(local[30:30+localName]) != name {
		return nil, 0, badFormat(file, int64(header), "zip entry %q: the local header has another name", name)
	}
	if size > uint64(len(local)-start) {
		return nil, 0, badFormat(file, pos, "zip entry %q: %d bytes, %d are left in the file", name, size, len(local)-start)
	}
	end := start + int(size)
	e := &zipEntry{name: name, crc: crc, offset: int64(header) + int64(start), data: local[start:end:end], header: int64(header)}
	return e, pos + int64(total), nil
}

// checkZipName refuses names that would be outside the folder in which the
// archive is unpacked. Nothing here unpacks it, but no honest writer makes them.
func checkZipName(file string, pos int64, name string) error {
	if name == "" || strings.HasPrefix(name, "/") || strings.ContainsAny(name, "\\\x00:") ||
		slices.Contains(strings.Split(name, "/"), "..") {
		return badFormat(file, pos, "zip entry %q: the name leaves the archive", name)
	}
	return nil
}

// zip64Extra replaces saturated values by those of the zip64 extra field, and
// reports whether that has them.
func zip64Extra(extra []byte, values ...*uint64) bool {
	var field []byte
	for len(extra) >= 4 {
		id, n := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if n > len(extra)-4 {
			return false
		}
		if id == 1 {
			field = extra[4 : 4+n]
		}
		extra = extra[4+n:]
	}
	for _, v := range values {
		if *v != 0xffffffff {
			continue
		}
		if len(field) < 8 {
			return false
		}
		*v = binary.LittleEndian.Uint64(field)
		field = field[8:]
	}
	return true
}
