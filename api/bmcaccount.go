package api

// BMCFinding is something about a node's BMC that somebody should see to.
type BMCFinding struct {
	Code   string `json:"code"` // "E-BMC-CIPHER-ZERO"
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

// RotateSecrets seals all secrets with a new key.
type RotateSecrets struct {
	KeepKey bool `json:"keep_key,omitempty"` // with the newest that there is
}

// Secrets is what is kept sealed, and with which keys.
type Secrets struct {
	File   string      `json:"file"`             // of the keys
	Keys   []SecretKey `json:"keys"`             // the last one that is there seals
	Sealed int         `json:"sealed,omitempty"` // anew, by a rotation
	Failed string      `json:"failed,omitempty"` // what could not be sealed anew
}

// SecretKey is one key.
type SecretKey struct {
	ID      string `json:"id"`
	Values  int    `json:"values"` // that are sealed with it
	Missing bool   `json:"missing,omitempty"`
}
