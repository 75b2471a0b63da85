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
)

// diskCache is the device's VkPipelineCache and the file it is kept in. Nothing that goes wrong with the file is an error: pipelines are
// then compiled again.
type diskCache struct {
	handle uint64
	path   string   // "": memory only
	loaded [32]byte // SHA-256 of the data read
}

// cacheMagic starts the file; the version in it changes with the layout of the header.
const cacheMagic = "pumice pipeline cache 1\n"

// maxCacheBytes bounds what is read: a larger file is not ours.
const maxCacheBytes = 1 << 30

// cacheKey is what must be the same for a driver to accept its old data. Drivers check this too, some of them badly.
func cacheKey(pd *PhysicalDevice) []byte {
	key := binary.LittleEndian.AppendUint32(nil, pd.VendorID)
	key = binary.LittleEndian.AppendUint32(key, pd.DeviceID)
	key = binary.LittleEndian.AppendUint32(key, pd.DriverVersion)
	key = append(key, pd.cacheUUID[:]...)
	return append(key, pd.DriverUUID[:]...)
}

// CacheName is a file name, without its extension, for what holds for this device and this version of its driver alone.
func (pd *PhysicalDevice) CacheName() string {
	sum := sha256.Sum256(cacheKey(pd))
	return fmt.Sprintf("%04x-%04x-%x", pd.VendorID, pd.DeviceID, sum[:8])
}

// encodeCache is the file's content: magic, key, SHA-256 of the data, data.
func encodeCache(key, data []byte) []byte {
	sum := sha256.Sum256(data)
	return bytes.Join([][]byte{[]byte(cacheMagic), key, sum[:], data}, nil)
}

// decodeCache returns the data of a file that was written for key and is whole.
func decodeCache(file, key []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(file, []byte(cacheMagic))
	if !ok {
		return nil, errors.New("not a pipeline cache")
	}
	if rest, ok = bytes.CutPrefix(rest, key); !ok {
		return nil, errors.New("of another device or driver")
	}
	if len(rest) < sha256.Size {
		return nil, errors.New("truncated")
	}
	if sum := sha256.Sum256(rest[sha256.Size:]); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil, errors.New("damaged")
	}
	return rest[sha256.Size:], nil
}

// open creates the VkPipelineCache, from the file in dir where it fits.
func (c *diskCache) open(d *Device, dir string) error {
	var data []byte
	if dir != "" {
		key := cacheKey(d.pd)
		c.path = filepath.Join(dir, d.pd.CacheName()+".pipelines")
		var err error
		if data, err = readCache(c.path, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

func readCache(path string, key []byte) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCacheBytes {
		return nil, errors.New("not a file of sensible size")
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decodeCache(file, key)
}

// close saves what the driver has compiled since open and destroys the VkPipelineCache.
func (c *diskCache) close(d *Device) {
	handle := as[vulkan.PipelineCache](c.handle)
	defer vulkan.DestroyPipelineCache(d.handle, handle, nil)
	if c.path == "" || d.dead.Load() != nil {
		return
	}
	// Two calls with the size that the first gave: lavapipe 22.3.6 leaves the size of a larger buffer unchanged.
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
	if err := WriteFile(c.path, encodeCache(cacheKey(d.pd), data)); err != nil {
		d.log.Info().Err(err).Str("file", c.path).Msg("pipeline cache not saved")
	}
}

// WriteFile replaces a file as a whole, in a folder that is made if missing: readers see the old content or the new.
func WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
