package console

import "regexp"

// secrets are the shapes of what must not be kept although a machine wrote it:
// a swarm's join tokens, and the ticket on the command line that Linux repeats.
var secrets = regexp.MustCompile(`(SWMTKN-1-|provision\.ticket=)[0-9A-Za-z_.-]+`)

const masked = "${1}[hidden]"

// mask takes secrets out of lines.
func mask(lines []byte) []byte {
	if !secrets.Match(lines) {
		return lines
	}
	return secrets.ReplaceAll(lines, []byte(masked))
}
