//go:build lab

package kernels

import "fmt"

var (
	matvecSubgroups  = 4
	matmulSplits     = 0
	decodeWorkgroups = 512
)

// Set changes a number of numbers.go, or with "matrixTile" or "flexibleTile", four numbers, the tile that all products by cm or
// cm2 take. It is called before a Manager is made.
func Set(name string, values ...int) error {
	numbers := map[string]*int{"matvecSubgroups": &matvecSubgroups, "matmulSplits": &matmulSplits, "decodeWorkgroups": &decodeWorkgroups}
	for _, v := range values {
		if v < 1 {
			return fmt.Errorf("kernels: %s = %v", name, values)
		}
	}
	switch number := numbers[name]; {
	case number != nil && len(values) == 1:
		*number = values[0]
	case name == "matrixTile" && len(values) == 4:
		wideTile = Tiling{Subgroups: [2]int(values[:2]), Matrices: [2]int(values[2:])}
		matrixTiles = []Tiling{wideTile}
	case name == "flexibleTile" && len(values) == 4:
		flexibleTiles = []flexibleTile{{values[0], values[1], values[2], values[3]}}
	default:
		return fmt.Errorf("kernels: no number %s of %d values", name, len(values))
	}
	return nil
}
