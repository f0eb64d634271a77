package fleet

// Nearest returns the word of have that is closest to got, or "" when none
// is close enough to be what was meant.
func Nearest(got string, have []string) string {
	best, bestDist := "", 1+max(2, len(got)/2)
	for _, h := range have {
		if d := distance(got, h); d < bestDist {
			best, bestDist = h, d
		}
	}
	return best
}

// distance is the Levenshtein distance between a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, diag+1, row[j]+1)
		}
	}
	return row[len(b)]
}
