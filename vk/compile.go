//go:build cgo

package vk

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// CompileStats count what drivers have compiled.
type CompileStats struct {
	Pipelines int           // that were created
	CPU       time.Duration // processor time that drivers took to compile them; 0 where the system does not tell
}

// compiled counts for the whole process, as the clocks of processor time do.
var compiled struct{ pipelines, nanoseconds atomic.Int64 }

// Compiles returns what all devices of this process have compiled since it started. Creating a pipeline counts with the processor time of
// the thread that calls the driver; what a driver does on threads of its own meanwhile is left out. Pipeline.Finish counts with the
// processor time of the process, the elapsed time at most, since a driver compiles one shader on one thread.
func Compiles() CompileStats {
	return CompileStats{int(compiled.pipelines.Load()), time.Duration(compiled.nanoseconds.Load())}
}

// CompileCPU is the processor time that the driver has taken to compile the pipeline, as Compiles counts it.
func (p *Pipeline) CompileCPU() time.Duration { return time.Duration(p.compileNanoseconds.Load()) }

func (p *Pipeline) addCompileCPU(t time.Duration) {
	p.compileNanoseconds.Add(int64(t))
	compiled.nanoseconds.Add(int64(t))
}

// create calls the driver, which compiles on this thread.
func (p *Pipeline) create(call func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadCPU()
	call()
	p.addCompileCPU(threadCPU() - start)
	compiled.pipelines.Add(1)
}

// Finish compiles the pipeline on drivers that put this off until the first dispatch, as Mesa's CPU driver does; what they
// compile depends on the kinds of buffers and the formats of texels in binds. It makes a dispatch of no workgroups and waits
// for it, so that neither the first token nor a time limit of real work contains the compilation. On devices other than
// CPUs, and after the first call, it does nothing. Several calls at once run one after another.
func (p *Pipeline) Finish(ctx context.Context, binds []Bind) error {
	if p.d.pd.Type != CPU || p.finished.Load() {
		return nil
	}
	p.d.finishMu.Lock()
	defer p.d.finishMu.Unlock()
	if p.finished.Load() {
		return nil
	}
	if err := ctx.Err(); err != nil { // while others compiled
		return err
	}
	rec := p.d.NewRecorder(RecorderOptions{})
	rec.empty(p, binds)
	c, err := rec.Finish()
	if err != nil {
		return err
	}
	start, cpu := time.Now(), processCPU()
	err = c.Run(ctx)
	p.addCompileCPU(min(time.Since(start), processCPU()-cpu))
	if closeErr := c.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("vk: pipeline %s: first dispatch: %w", p.name, err)
	}
	p.finished.Store(true)
	return nil
}
