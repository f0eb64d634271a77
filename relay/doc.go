// Package relay is `provision relay`: a small edge of ours in a network that
// has no server of its own.
//
// It carries the machines' DHCP packets to the server and back ([agent]),
// serves boot files and image chunks from a cache that it has checked
// ([cache]), asks the server for each machine's script in that machine's name,
// and carries the machines' TLS connections to the server, whole, through
// tunnels. While the server is away it goes on for the nodes that the server
// told it of ([snapshot]): they get their own address and their own disk, and
// installs wait.
//
// It decides nothing by itself: what a machine gets while the server is away
// says [pxe.Decide], from what the server said last.
package relay
