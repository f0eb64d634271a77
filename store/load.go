package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"
	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

// Load returns everything that the engine keeps, as of one moment. Of the
// runs that are over it returns the newest of each pool.
func (s *Store) Load(ctx context.Context) (fleet.World, error) {
	var w fleet.World
	err := s.read.WithContext(ctx).Transaction(func(tx *gorm.DB) (err error) {
		if w.Site, err = s.loadSite(tx); err != nil {
			return err
		}
		if w.Nodes, err = s.loadNodes(tx); err != nil {
			return err
		}
		if w.Runs, err = s.loadRuns(tx); err != nil {
			return err
		}
		if w.Tickets, err = s.loadTickets(tx); err != nil {
			return err
		}
		return tx.Raw("SELECT coalesce(max(seq), 0) FROM events").Scan(&w.LastSeq).Error
	})
	if err != nil {
		return fleet.World{}, s.fault("load world", err)
	}
	return w, nil
}

func (s *Store) loadSite(tx *gorm.DB) (site fleet.Site, err error) {
	var row siteRow
	switch err := tx.First(&row, theSite).Error; {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return site, nil
	case err != nil:
		return site, err
	}
	if err := row.decode(&site); err != nil {
		return site, s.damaged(fmt.Errorf("site: %w", err))
	}
	return site, nil
}

// loadNodes decodes on every core: with many nodes that is where the time of
// a restart goes.
func (s *Store) loadNodes(tx *gorm.DB) ([]fleet.Node, error) {
	var rows []nodeRow
	if err := tx.Order("id").Find(&rows).Error; err != nil {
		return nil, err
	}
	nodes := make([]fleet.Node, len(rows))
	var g errgroup.Group
	share := max(256, (len(rows)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for from := 0; from < len(rows); from += share {
		to := min(from+share, len(rows))
		g.Go(func() error {
			for i := from; i < to; i++ {
				var err error
				if nodes[i], err = rows[i].node(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, s.damaged(err)
	}
	return nodes, nil
}
