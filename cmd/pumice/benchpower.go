package main

import (
	"bufio"
	"context"
	"io"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"pumice"
	"pumice/bench"
)

// nvidiaPower reads the power of a device of NVIDIA from nvidia-smi, which runs until Close. nil: the device is another's, there is
// no such program, or it doesn't know the device.
func nvidiaPower(d pumice.DeviceInfo) *bench.Power {
	uuid := d.UUID
	if !strings.HasPrefix(d.PCIID, "10de:") || len(uuid) != 32 {
		return nil
	}
	id := "GPU-" + strings.Join([]string{uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]}, "-")
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "nvidia-smi", "--id="+id, "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--loop-ms=20")
	c.WaitDelay = time.Second
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		cancel()
		return nil
	}
	var watts atomic.Uint64 // its bits; 0: not known
	first, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			x, err := strconv.ParseFloat(strings.TrimSpace(lines.Text()), 64)
			if err != nil || !(x > 0) {
				watts.Store(0)
				continue
			}
			if watts.Store(math.Float64bits(x)); n == 0 {
				close(first)
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	x := &bench.Power{Source: "nvidia-smi power.draw", Close: func() {
		cancel()
		<-done
		_ = c.Wait() // it was killed
	}}
	x.Watts = func() (float64, bool) {
		bits := watts.Load()
		return math.Float64frombits(bits), bits != 0
	}
	select {
	case <-first:
		return x
	case <-done:
	case <-time.After(5 * time.Second):
	}
	x.Close()
	return nil
}
