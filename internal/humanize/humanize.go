// Package humanize writes numbers of bytes for people: in errors, tables and help. Output for programs has the plain
// number.
package humanize

import "fmt"

// Bytes writes n, which is not negative, in the largest binary unit that leaves at least one: "512 B", "1.5 KiB",
// "16.0 GiB".
func Bytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	const units = "KMGTPE"
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(units)-1 { // what one decimal would round to 1024.0
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}
