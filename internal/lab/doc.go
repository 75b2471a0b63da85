// Package lab changes kernels of a build with the tag lab, for measurements of others: SPIR-V from a folder in place of that of
// the build, and numbers that Go and GLSL share. In other builds the package is empty,
// and nothing can be changed.
package lab
