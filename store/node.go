package store

import (
	"fmt"

	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

type nodeRow struct {
	ID       string `gorm:"primaryKey"`
	MAC      string
	Name     string
	Pool     string
	State    string
	Revision int64
	Document
}

func (nodeRow) TableName() string { return "nodes" }

func toNodeRow(n fleet.Node) (nodeRow, error) {
	row := nodeColumns(n)
	var err error
	row.Document, err = encode(n)
	return row, err
}

func nodeColumns(n fleet.Node) nodeRow {
	return nodeRow{
		ID: string(n.ID), MAC: string(n.MAC), Name: n.Name, Pool: string(n.Pool), State: string(n.State), Revision: n.Revision,
	}
}

func (r nodeRow) node() (n fleet.Node, err error) {
	if err := r.decode(&n); err != nil {
		return n, fmt.Errorf("node %s: %w", r.ID, err)
	}
	if c := nodeColumns(n); c.ID != r.ID || c.MAC != r.MAC || c.Name != r.Name || c.Pool != r.Pool || c.State != r.State || c.Revision != r.Revision {
		return n, fmt.Errorf("node %s: %w", r.ID, errColumns)
	}
	return n, nil
}

// saveNodes stores new nodes (revision 1) and the next revision of known
// ones. Anything else means that somebody else has written in between, or
// that a change was lost: the engine's memory and the file have parted.
func saveNodes(tx *gorm.DB, nodes []fleet.Node) error {
	var added []nodeRow
	for _, n := range nodes {
		row, err := toNodeRow(n)
		if err != nil {
			return err
		}
		if n.Revision == 1 {
			added = append(added, row)
			continue
		}
		if err := updateNode(tx, row); err != nil {
			return err
		}
	}
	if len(added) == 0 {
		return nil
	}
	return tx.CreateInBatches(added, batchRows).Error
}

func updateNode(tx *gorm.DB, row nodeRow) error {
	done := tx.Model(&row).Where("revision = ?", row.Revision-1).Select("*").Omit("id").Updates(row)
	if done.Error != nil {
		return done.Error
	}
	if done.RowsAffected == 1 {
		return nil
	}
	return &fleet.Error{
		Kind: fleet.Internal, Code: "E-REVISION", Op: "save node", On: row.ID, Hint: "restart provision: it goes on from what is stored",
		Err: fmt.Errorf("revision %d does not follow the stored one", row.Revision),
	}
}
