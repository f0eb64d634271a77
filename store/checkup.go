package store

import (
	"context"
	"fmt"

	"gorm.io/gorm/clause"

	"github.com/rackstage/provision/fleet"
)

type checkupRow struct {
	Node string `gorm:"primaryKey"`
	Document
}

func (checkupRow) TableName() string { return "checkups" }

// Checkups returns what BMCs have said about their machines last.
func (s *Store) Checkups(ctx context.Context) ([]fleet.Checkup, error) {
	var rows []checkupRow
	if err := s.read.WithContext(ctx).Order("node").Find(&rows).Error; err != nil {
		return nil, s.fault("read checkups", err)
	}
	all := make([]fleet.Checkup, len(rows))
	for i, row := range rows {
		if err := row.decode(&all[i]); err != nil {
			return nil, s.damaged(fmt.Errorf("checkup of node %q: %w", row.Node, err))
		}
		if string(all[i].Node) != row.Node {
			return nil, s.damaged(fmt.Errorf("checkup of node %q: %w", row.Node, errColumns))
		}
	}
	return all, nil
}

// SaveCheckup stores a checkup in place of the one before.
func (s *Store) SaveCheckup(ctx context.Context, c fleet.Checkup) error {
	doc, err := encode(c)
	if err != nil {
		return err
	}
	row := checkupRow{Node: string(c.Node), Document: doc}
	return s.fault("save checkup", s.write.WithContext(ctx).Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error)
}
