package store

import (
	"context"
	"fmt"

	"gorm.io/gorm/clause"

	"github.com/rackstage/provision/fleet"
)

type relayRow struct {
	Name string `gorm:"primaryKey"`
	Document
}

func (relayRow) TableName() string { return "relays" }

// Relays returns all relays, in order of name.
func (s *Store) Relays(ctx context.Context) ([]fleet.Relay, error) {
	var rows []relayRow
	if err := s.read.WithContext(ctx).Order("name").Find(&rows).Error; err != nil {
		return nil, s.fault("read relays", err)
	}
	relays := make([]fleet.Relay, len(rows))
	for i, row := range rows {
		if err := row.decode(&relays[i]); err != nil {
			return nil, s.damaged(fmt.Errorf("relay %s: %w", row.Name, err))
		}
		if relays[i].Name != row.Name {
			return nil, s.damaged(fmt.Errorf("relay %s: %w", row.Name, errColumns))
		}
	}
	return relays, nil
}

// SaveRelay stores a relay.
func (s *Store) SaveRelay(ctx context.Context, r fleet.Relay) error {
	doc, err := encode(r)
	if err != nil {
		return err
	}
	row := relayRow{Name: r.Name, Document: doc}
	return s.fault("save relay", s.write.WithContext(ctx).Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error)
}

// DeleteRelay removes a relay. There need not be one.
func (s *Store) DeleteRelay(ctx context.Context, name string) error {
	return s.fault("delete relay", s.write.WithContext(ctx).Where("name = ?", name).Delete(&relayRow{}).Error)
}
