package store

import (
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rackstage/provision/fleet"
)

type runRow struct {
	ID      string `gorm:"primaryKey"`
	Pool    string
	Started int64
	Over    bool
	Document
}

func (runRow) TableName() string { return "runs" }

// A runNodeRow is one node's part of a run. It has a row of its own because
// a run of a thousand nodes changes at one of them at a time.
type runNodeRow struct {
	Run   string `gorm:"primaryKey"`
	Place int64  `gorm:"primaryKey;autoIncrement:false"` // in Run.Nodes
	Document
}

func (runNodeRow) TableName() string { return "run_nodes" }

// A savedRun is the checksums of a run's nodes as they are in the file.
type savedRun []string

func runColumns(r fleet.Run) runRow {
	return runRow{ID: string(r.ID), Pool: string(r.Pool), Started: toNano(r.Started), Over: r.State.Over()}
}

func (r runRow) run() (run fleet.Run, err error) {
	if err := r.decode(&run); err != nil {
		return run, fmt.Errorf("run %s: %w", r.ID, err)
	}
	if c := runColumns(run); c.ID != r.ID || c.Pool != r.Pool || c.Started != r.Started || c.Over != r.Over {
		return run, fmt.Errorf("run %s: %w", r.ID, errColumns)
	}
	return run, nil
}

// saveRun stores a run and those of its nodes that changed since it was
// saved last. It returns what to remember of it.
func (s *Store) saveRun(tx *gorm.DB, r fleet.Run) (savedRun, error) {
	row := runColumns(r)
	bare := r
	bare.Nodes = nil
	var err error
	if row.Document, err = encode(bare); err != nil {
		return nil, err
	}
	// A run keeps its start for life. Another start under the same ID would
	// be another run that overwrites history.
	done := tx.Clauses(clause.OnConflict{
		Columns:   []clause.Column{{Name: "id"}},
		DoUpdates: clause.AssignmentColumns([]string{"over", "doc", "sum"}),
		Where: clause.Where{Exprs: []clause.Expression{
			clause.Expr{SQL: "runs.started = excluded.started AND runs.pool = excluded.pool"},
		}},
	}).Create(&row)
	if done.Error != nil {
		return nil, done.Error
	}
	if done.RowsAffected != 1 {
		return nil, taken("save run "+row.ID, errors.New("an earlier run has this ID"))
	}
	return s.saveRunNodes(tx, r)
}

func (s *Store) saveRunNodes(tx *gorm.DB, r fleet.Run) (savedRun, error) {
	before := s.runs[r.ID]
	now := make(savedRun, len(r.Nodes))
	var changed []runNodeRow
	for i, n := range r.Nodes {
		doc, err := encode(n)
		if err != nil {
			return nil, err
		}
		now[i] = string(doc.Doc)
		if i >= len(before) || before[i] != now[i] {
			changed = append(changed, runNodeRow{Run: string(r.ID), Place: int64(i), Document: doc})
		}
	}
	if len(changed) > 0 {
		if err := tx.Clauses(clause.OnConflict{UpdateAll: true}).CreateInBatches(changed, batchRows).Error; err != nil {
			return nil, err
		}
	}
	if len(before) > 0 && len(before) <= len(now) {
		return now, nil
	}
	return now, tx.Where("run = ? AND place >= ?", r.ID, len(now)).Delete(&runNodeRow{}).Error
}

// keptRuns is how many runs of each pool that are over are loaded.
const keptRuns = 20

func (s *Store) loadRuns(tx *gorm.DB) ([]fleet.Run, error) {
	var rows []runRow
	err := tx.Raw(`SELECT id, pool, started, over, doc, sum FROM (
			SELECT *, row_number() OVER (PARTITION BY pool, over ORDER BY started DESC, id DESC) AS age FROM runs
		) WHERE NOT over OR age <= ? ORDER BY started, id`, keptRuns).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	runs := make([]fleet.Run, 0, len(rows))
	for _, row := range rows {
		run, err := row.run()
		if err == nil {
			run.Nodes, err = loadRunNodes(tx, row.ID)
		}
		if err != nil {
			return nil, s.damaged(err)
		}
		runs = append(runs, run)
	}
	return runs, nil
}

func loadRunNodes(tx *gorm.DB, id string) ([]fleet.RunNode, error) {
	var rows []runNodeRow
	if err := tx.Where("run = ?", id).Order("place").Find(&rows).Error; err != nil {
		return nil, err
	}
	var nodes []fleet.RunNode
	for i, row := range rows {
		if row.Place != int64(i) {
			return nil, fmt.Errorf("run %s: node %d is missing", id, i)
		}
		var n fleet.RunNode
		if err := row.decode(&n); err != nil {
			return nil, fmt.Errorf("run %s: node %d: %w", id, i, err)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// toNano and fromNano keep an instant to the nanosecond; 0 is no time at all.
func toNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
