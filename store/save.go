package store

import (
	"context"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rackstage/provision/fleet"
)

// batchRows is how many rows go into one statement. More gain nothing: the
// driver looks up each argument among all of them.
const batchRows = 32

type siteRow struct {
	ID int64 `gorm:"primaryKey;autoIncrement:false"`
	Document
}

func (siteRow) TableName() string { return "sites" }

const theSite = 1

// Save stores a change, whole or not at all. When it returns nil the change
// is on the disk. The caller counts: an event has its number, and a node has
// the revision that it shall have, 1 when it is new and otherwise one more
// than what is stored.
func (s *Store) Save(ctx context.Context, c fleet.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Site == nil && len(c.Nodes)+len(c.Runs)+len(c.Tickets) == 0 {
		return s.fault("save change", s.inTurn(ctx, s.events.c, func() error { return s.events.append(c.Events) }))
	}
	saved := make([]savedRun, len(c.Runs))
	err := s.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := saveSite(tx, c.Site); err != nil {
			return err
		}
		if err := saveNodes(tx, c.Nodes); err != nil {
			return fmt.Errorf("save nodes: %w", err)
		}
		for i, r := range c.Runs {
			var err error
			if saved[i], err = s.saveRun(tx, r); err != nil {
				return fmt.Errorf("save run %s: %w", r.ID, err)
			}
		}
		for _, t := range c.Tickets {
			if err := saveTicket(tx, t); err != nil {
				return fmt.Errorf("save ticket: %w", err)
			}
		}
		if err := appendEvents(tx, c.Events); err != nil {
			return fmt.Errorf("append events: %w", err)
		}
		return nil
	})
	if err != nil {
		return s.fault("save change", err)
	}
	s.remember(c.Runs, saved)
	return nil
}

func (s *Store) remember(runs []fleet.Run, saved []savedRun) {
	for i, r := range runs {
		if r.State.Over() {
			delete(s.runs, r.ID)
			continue
		}
		s.runs[r.ID] = saved[i]
	}
}

func saveSite(tx *gorm.DB, site *fleet.Site) error {
	if site == nil {
		return nil
	}
	doc, err := encode(site)
	if err != nil {
		return err
	}
	return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&siteRow{ID: theSite, Document: doc}).Error
}
