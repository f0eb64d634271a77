package store

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rackstage/provision/fleet"
)

type ticketRow struct {
	Hash    []byte `gorm:"primaryKey"`
	Expires int64
	Document
}

func (ticketRow) TableName() string { return "tickets" }

func saveTicket(tx *gorm.DB, t fleet.Ticket) error {
	row := ticketRow{Hash: t.Hash[:], Expires: toNano(t.Expires)}
	var err error
	if row.Document, err = encode(t); err != nil {
		return err
	}
	return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error
}

func (r ticketRow) ticket() (t fleet.Ticket, err error) {
	if err := r.decode(&t); err != nil {
		return t, fmt.Errorf("ticket %x: %w", r.Hash[:min(4, len(r.Hash))], err)
	}
	if !bytes.Equal(t.Hash[:], r.Hash) || toNano(t.Expires) != r.Expires {
		return t, fmt.Errorf("ticket %x: %w", r.Hash[:min(4, len(r.Hash))], errColumns)
	}
	return t, nil
}

// ticketsKept is how long a ticket is remembered after it expired, so that a
// late second redemption is told from a made-up one.
const ticketsKept = 24 * time.Hour

func (s *Store) loadTickets(tx *gorm.DB) ([]fleet.Ticket, error) {
	var rows []ticketRow
	oldest := time.Now().Add(-ticketsKept)
	if err := tx.Where("expires > ?", toNano(oldest)).Order("expires").Find(&rows).Error; err != nil {
		return nil, err
	}
	var errs []error
	tickets := make([]fleet.Ticket, 0, len(rows))
	for _, row := range rows {
		t, err := row.ticket()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tickets = append(tickets, t)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, s.damaged(err)
	}
	return tickets, nil
}
