//go:build cgo

package vk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"

	"pumice/internal/atomicfile"
)

// diskCache is the device's VkPipelineCache and the file it is kept in. A problem with the file is never an error: the
// pipelines are then compiled again.
type diskCache struct {
	handle  uint64
	path    string   // "" keeps the cache in memory only
	content string   // DeviceOptions.CacheContent
	loaded  [32]byte // SHA-256 of the data read
}

// cacheMagic starts the file; the version in it changes with the layout of the header.
const cacheMagic = "pumice pipeline cache 2\n"

// maxCacheBytes bounds the file that is read: we never write a larger one.
const maxCacheBytes = 1 << 30

// cacheKey identifies the device and its driver. Data saved under another key is not given to the driver: drivers check
// this too, but some of them badly.
func cacheKey(pd *PhysicalDevice) []byte {
	key := binary.LittleEndian.AppendUint32(nil, pd.VendorID)
	key = binary.LittleEndian.AppendUint32(key, pd.DeviceID)
	key = binary.LittleEndian.AppendUint32(key, pd.DriverVersion)
	key = append(key, pd.cacheUUID[:]...)
	return append(key, pd.DriverUUID[:]...)
}

// CacheName returns a file name, without extension, for data that is valid only for this device and this version of its
// driver.
func (pd *PhysicalDevice) CacheName() string {
	sum := sha256.Sum256(cacheKey(pd))
	return fmt.Sprintf("%04x-%04x-%x", pd.VendorID, pd.DeviceID, sum[:8])
}

// encodeCache returns the file's content: magic, key, SHA-256 of CacheContent, SHA-256 of the data, data.
func encodeCache(key []byte, content string, data []byte) []byte {
	from, sum := sha256.Sum256([]byte(content)), sha256.Sum256(data)
	return bytes.Join([][]byte{[]byte(cacheMagic), key, from[:], sum[:], data}, nil)
}

// decodeCache returns the data of a file, which must be complete and written for key and content.
func decodeCache(file, key []byte, content string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(file, []byte(cacheMagic))
	if !ok {
		return nil, errors.New("not a pipeline cache")
	}
	if rest, ok = bytes.CutPrefix(rest, key); !ok {
		return nil, errors.New("written for another device or driver")
	}
	from := sha256.Sum256([]byte(content))
	if rest, ok = bytes.CutPrefix(rest, from[:]); !ok {
		return nil, errors.New("written for other kernels")
	}
	if len(rest) < sha256.Size {
		return nil, errors.New("truncated")
	}
	if sum := sha256.Sum256(rest[sha256.Size:]); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil, errors.New("damaged")
	}
	return rest[sha256.Size:], nil
}

// open creates the VkPipelineCache, from the file in dir if that was written for this device, driver and content.
func (c *diskCache) open(d *Device, dir, content string) error {
	var data []byte
	if dir != "" {
		c.content = content
		c.path = filepath.Join(dir, d.pd.CacheName()+".pipelines")
		var err error
		data, err = readCache(c.path, cacheKey(d.pd), content)
		var foreign *ForeignError
		switch {
		case errors.As(err, &foreign):
			d.log.Warn().Err(err).Msg("pipeline cache not used: the driver would trust its content")
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			d.log.Info().Err(err).Str("file", c.path).Msg("pipeline cache ignored")
		}
	}
	handle, r := d.shim.NewCache(data)
	if r != 0 && len(data) > 0 {
		d.log.Info().Str("file", c.path).Stringer("result", Result(r)).Msg("pipeline cache refused by the driver")
		data = nil
		handle, r = d.shim.NewCache(nil)
	}
	if r != 0 {
		return d.check(r, "vkCreatePipelineCache", "%s", d.pd.Name)
	}
	c.handle, c.loaded = handle, sha256.Sum256(data)
	return nil
}

func readCache(path string, key []byte, content string) ([]byte, error) {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := checkOwner(filepath.Dir(path), dir); err != nil {
		return nil, err
	}
	info, err := os.Stat(path) // the folder is ours: from here on no other user can replace the file
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCacheBytes {
		return nil, errors.New("not a regular file of at most 1 GiB")
	}
	if err := checkOwner(path, info); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decodeCache(file, key, content)
}

// close saves what the driver has compiled since open and destroys the VkPipelineCache.
func (c *diskCache) close(d *Device) {
	handle := as[vulkan.PipelineCache](c.handle)
	defer vulkan.DestroyPipelineCache(d.handle, handle, nil)
	if c.path == "" || d.dead.Load() != nil {
		return
	}
	// The second call passes exactly the size from the first: given a larger buffer, lavapipe 22.3.6 does not report
	// the size used.
	var size uint
	if r := vulkan.GetPipelineCacheData(d.handle, handle, &size, nil); r != vulkan.Success || size == 0 {
		return
	}
	data := make([]byte, size)
	if r := vulkan.GetPipelineCacheData(d.handle, handle, &size, unsafe.Pointer(&data[0])); r != vulkan.Success {
		return
	}
	data = data[:size]
	if sha256.Sum256(data) == c.loaded {
		return
	}
	if err := WriteFile(c.path, encodeCache(cacheKey(d.pd), c.content, data)); err != nil {
		d.log.Info().Err(err).Str("file", c.path).Msg("pipeline cache not saved")
	}
}

// A ForeignError reports a cache file or folder that is not used because another user could have written its content.
type ForeignError struct {
	Path   string
	Reason string
}

func (e *ForeignError) Error() string { return fmt.Sprintf("vk: %s %s", e.Path, e.Reason) }

// checkOwner returns a *ForeignError if another user owns the file or folder, or may write to it.
func checkOwner(path string, info fs.FileInfo) error {
	if owner, known := ownerOf(info); known && owner != os.Geteuid() {
		return &ForeignError{path, fmt.Sprintf("belongs to user %d, not to %d", owner, os.Geteuid())}
	} else if known && info.Mode().Perm()&0o022 != 0 {
		return &ForeignError{path, fmt.Sprintf("can be written by others (mode %04o)", info.Mode().Perm())}
	}
	return nil
}

// makeFolder makes dir, if it is missing, so that only this user may write to it. It refuses to make a folder inside
// another user's folder: run by root, the program would leave files there that the other user can't remove.
func makeFolder(dir string) error {
	info, err := os.Stat(dir)
	if err == nil {
		return checkOwner(dir, info)
	}
	above := dir
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(above) != above {
		above = filepath.Dir(above)
		info, err = os.Stat(above)
	}
	if err != nil {
		return err
	}
	if owner, known := ownerOf(info); known && owner != os.Geteuid() && owner != 0 {
		return &ForeignError{above, fmt.Sprintf("belongs to user %d, not to %d", owner, os.Geteuid())}
	}
	return os.MkdirAll(dir, 0o755)
}

// WriteFile replaces a cache file atomically: readers see the old content or the new. It makes the folder if that is
// missing. If another user owns the folder or may write to it, nothing is written and the error is a *ForeignError.
func WriteFile(path string, data []byte) error {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return atomicfile.Replace(path, func(f *os.File) error {
		if err := f.Chmod(0o600); err != nil { // a umask may let a group write, and then the file would not be used
			return err
		}
		_, err := f.Write(data)
		return err
	})
}
