package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"time"
)

// A Purpose is what a ticket is good for.
type Purpose string

// The purposes of tickets.
const (
	TicketHello Purpose = "hello" // say hello from the ramdisk
	TicketJoin  Purpose = "join"  // learn how to join the cluster
	TicketMedia Purpose = "media" // have a BMC read the CD image of one boot
)

// A Ticket is a one-use, short-lived right of one machine to one thing. Only
// its hash is kept; that of a ticket for saying hello from its redemption on.
type Ticket struct {
	Hash     [32]byte // SHA-256 of the secret
	Purpose  Purpose
	MAC      MAC
	Node     NodeID     // "" before the machine is a node
	Addr     netip.Addr // the address that it is bound to
	Expires  time.Time
	Redeemed time.Time // zero until it is used
	Key      [32]byte  // hash of the key of whoever redeemed it: the same one may ask again
	Made     int64     // its place in the order in which tickets were made and redeemed; hello and media only
	Used     int64     // place of its redemption; hello only
}

// A MediaBoot is one boot of a machine from a CD image of ours.
type MediaBoot struct {
	Node    Node
	Hello   string // secret of its ticket for saying hello
	Expires time.Time
}

// NewSecret returns a random 256-bit secret in URL-safe text, and its hash.
func NewSecret() (secret string, hash [32]byte) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	secret = base64.RawURLEncoding.EncodeToString(raw)
	return secret, HashSecret(secret)
}

// HashSecret returns what is kept of a secret. The secrets are random and
// 256 bits long, so that a plain hash is enough.
func HashSecret(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// ShortHash returns the first eight bytes of a hash in hex.
func ShortHash(hash [32]byte) string { return hex.EncodeToString(hash[:8]) }
