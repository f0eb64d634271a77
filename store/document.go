package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// A Document is a value as JSON with a checksum. Its field names are those of
// package fleet, so a test holds them to what older databases have in them.
// (It is exported because gorm does not look into unexported structs.)
type Document struct {
	Doc []byte
	Sum int64
}

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(v any) (Document, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return Document{}, fmt.Errorf("encode %T: %w", v, err)
	}
	return Document{Doc: raw, Sum: int64(crc32.Checksum(raw, castagnoli))}, nil
}

func (d Document) decode(v any) error {
	if int64(crc32.Checksum(d.Doc, castagnoli)) != d.Sum {
		return errors.New("the checksum does not fit")
	}
	if err := json.Unmarshal(d.Doc, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

var errColumns = errors.New("its columns do not fit its document")
