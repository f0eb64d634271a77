// Package fleet holds the nouns of provision: stages, pools, profiles, nodes,
// rules, runs, events, evidence and tickets, and the rules that need nothing
// but themselves: which state may follow which, which disk a node is
// installed on, which pool a discovered machine belongs to.
//
// It is the bottom of the house. It imports the standard library only, does
// no I/O and knows no clock: whoever calls it says what time it is.
package fleet
