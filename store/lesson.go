package store

import (
	"context"
	"fmt"

	"gorm.io/gorm/clause"

	"github.com/rackstage/provision/fleet"
)

type lessonRow struct {
	Key string `gorm:"primaryKey"`
	Document
}

func (lessonRow) TableName() string { return "lessons" }

// Lessons returns what boots have taught about models.
func (s *Store) Lessons(ctx context.Context) ([]fleet.Lesson, error) {
	var rows []lessonRow
	if err := s.read.WithContext(ctx).Order("key").Find(&rows).Error; err != nil {
		return nil, s.fault("read lessons", err)
	}
	lessons := make([]fleet.Lesson, len(rows))
	for i, row := range rows {
		if err := row.decode(&lessons[i]); err != nil {
			return nil, s.damaged(fmt.Errorf("lesson %q: %w", row.Key, err))
		}
		if lessons[i].Key() != row.Key {
			return nil, s.damaged(fmt.Errorf("lesson %q: %w", row.Key, errColumns))
		}
	}
	return lessons, nil
}

// SaveLesson stores a lesson in place of the one about the same model.
func (s *Store) SaveLesson(ctx context.Context, l fleet.Lesson) error {
	doc, err := encode(l)
	if err != nil {
		return err
	}
	row := lessonRow{Key: l.Key(), Document: doc}
	return s.fault("save lesson", s.write.WithContext(ctx).Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error)
}
