//go:build !lab

package kernels

// Numbers that a build with the tag lab can change (Set), to measure others.
const (
	matvecSubgroups  = 4   // of a workgroup of matvec_sg.comp: SUBGROUPS
	matmulSplits     = 0   // of the columns of products by tiles; 0 means as many as make the device busy
	decodeWorkgroups = 512 // that attention of a token is divided into at most, where there are positions enough
)
