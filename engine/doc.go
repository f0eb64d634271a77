// Package engine decides what happens to every node, and is the only one that
// changes a node's state.
//
// Everybody else reports: the wires report evidence ([Engine.Observe]), agents
// say hello and ask for their next step ([Engine.Hello], [Engine.Poll]),
// operators plan and start runs ([Engine.Plan], [Engine.Start]). The engine
// writes each decision to the [Store] before anybody sees it, so the server
// may be killed at any moment: the next one loads the world, finds the runs
// that were under way and goes on where they were.
//
// Boot tickets are the one thing that is given out and not written down: they
// are sealed, and their redemption is what is stored (ticket.go says why that
// is enough for each of them to be good only once).
//
// A run is carried out node by node. What is done with one node is its
// program (program.go): a list of phases, each with a deadline, a number of
// tries and a function that is safe to repeat. The phase under way is the
// checkpoint that is kept.
package engine
