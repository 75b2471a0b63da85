package main

/*
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void crashed(int sig) {
	static const char text[] = "\npumice: crashed: a bug of this program or of the device's driver, or no memory left. Please report it with all\n"
		"lines above, the command, and what `pumice devices` says.\n";
	if (write(STDERR_FILENO, text, sizeof text - 1)) {}
	signal(sig, SIG_DFL);
	sigset_t own;
	sigemptyset(&own);
	sigaddset(&own, sig);
	pthread_sigmask(SIG_UNBLOCK, &own, NULL); // blocked by Go's handler, which calls this one
	raise(sig);
	_exit(128 + sig); // a container's first process outlives the signal
}

// Go's runtime hands its own last signal on to the handler that was there before it.
__attribute__((constructor)) static void handleAbort(void) {
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = crashed;
	action.sa_flags = SA_ONSTACK; // Go's stacks are small
	sigaction(SIGABRT, &action, NULL);
}
*/
import "C"

import (
	"os"
	"runtime/debug"
	"syscall"
)

// distinctCrashes makes a crash end the program by SIGABRT, status 134 in a shell. Go's own status for it is 2, as for
// wrong usage. It covers panics of all goroutines, faults and running out of memory. Nothing in Go sees all of these,
// so a handler in C writes the last lines. If the user has set GOTRACEBACK, Go does what that says, with its own
// status.
func distinctCrashes() {
	if os.Getenv("GOTRACEBACK") != "" {
		return
	}
	debug.SetTraceback("crash")
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0 // a core dump is as large as the model, and holds what the user wrote
		syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
}
