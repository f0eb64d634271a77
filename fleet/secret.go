package fleet

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// A Secret is text that shows itself to nobody who prints, logs or encodes it.
// Only a conversion to string brings it out.
type Secret string

const hiddenSecret = "[hidden]"

// String hides the secret from fmt.
func (Secret) String() string { return hiddenSecret }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return hiddenSecret }

// Format hides the secret from every other verb, such as %x.
func (Secret) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(hiddenSecret)) }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hiddenSecret) }

// MarshalJSON hides the secret from JSON.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hiddenSecret) }

// MarshalText hides the secret from all other encodings.
func (Secret) MarshalText() ([]byte, error) { return []byte(hiddenSecret), nil }
