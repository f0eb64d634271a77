package image

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/cpio"
)

// packTree packs a folder of plain files as a compressed archive that the
// kernel can unpack: sorted, owned by root, without times, so that the same
// files give the same bytes.
func packTree(ctx context.Context, out, dir string) error {
	var records []cpio.Record
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		inside, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			records = append(records, cpio.Directory(inside, 0o755))
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		records = append(records, cpio.StaticFile(inside, string(content), 0o644))
		return nil
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return packRecords(ctx, out, records)
}

// packInit packs the agent as /init with the few things that must be there
// before it has mounted anything.
func packInit(ctx context.Context, out, agent string) error {
	program, err := os.ReadFile(agent)
	if err != nil {
		return fmt.Errorf("pack agent: %w", err)
	}
	var records []cpio.Record
	for _, dir := range []string{"dev", "etc", "lib", "mnt", "proc", "root", "run", "sys", "tmp", "var"} {
		records = append(records, cpio.Directory(dir, 0o755))
	}
	records = append(records,
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/null", 0o666, 1, 3),
		cpio.StaticFile("init", string(program), 0o755),
	)
	return packRecords(ctx, out, records)
}

func packRecords(ctx context.Context, out string, records []cpio.Record) error {
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	for i, r := range records {
		r = cpio.MakeReproducible(r)
		r.Ino = uint64(i + 1)
		if err := w.WriteRecord(r); err != nil {
			return fmt.Errorf("pack %s: %w", r.Name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	// zstd's own program: Go's packs to a fifth more, and every node loads this.
	c := command{name: "zstd", args: []string{"-q", "-f", "-19", "-T0", "-", "-o", out}, stdin: &archive}
	_, err := c.run(ctx)
	return err
}
