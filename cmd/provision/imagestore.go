package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/image"
)

func newImagesCmd(a *app) *cobra.Command {
	return group("images", "What machines boot, and what is written to their disks",
		newImagesListCmd(a), newImagesBuildCmd(a), newImagesImportCmd(a), newImagesVerifyCmd(a))
}

func newImagesListCmd(a *app) *cobra.Command {
	w := &imageWork{app: a}
	var format string
	cmd := &cobra.Command{
		Use: "list", Short: "List the images in the store", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			store, err := w.open(cmd)
			if err != nil {
				return err
			}
			infos, err := store.List()
			if err != nil {
				return err
			}
			images := make([]api.Image, 0, len(infos))
			for _, i := range infos {
				images = append(images, toImage(i))
			}
			return imageListing(images).write(a.stdout, format)
		},
	}
	addSettings(cmd.Flags(), "state_dir")
	addOutput(cmd, &format)
	return cmd
}

func toImage(i image.Info) api.Image {
	return api.Image{
		Name: i.Name, Kind: i.Kind, Digest: i.Digest, Size: i.Size, Stored: i.StoredBytes, Chunks: i.Chunks, Created: i.Created,
	}
}

func imageListing(images []api.Image) listing[api.Image] {
	return listing[api.Image]{
		items: images,
		name:  func(i api.Image) string { return i.Name },
		columns: []column[api.Image]{
			{"IMAGE", false, func(i api.Image) string { return i.Name }},
			{"KIND", false, func(i api.Image) string { return i.Kind }},
			{"SIZE", false, func(i api.Image) string { return bytesOf(i.Size) }},
			{"STORED", false, func(i api.Image) string { return bytesOf(i.Stored) }},
			{"CHUNKS", true, func(i api.Image) string { return fmt.Sprint(i.Chunks) }},
			{"CREATED", false, func(i api.Image) string { return i.Created.Local().Format(time.DateTime) }},
			{"DIGEST", false, func(i api.Image) string { return strings.TrimPrefix(shortDigest(i.Digest), "@") }},
		},
	}
}

// open opens the image store of this machine's server.
func (w *imageWork) open(cmd *cobra.Command) (*image.Store, error) {
	if err := w.prepare(cmd); err != nil {
		return nil, err
	}
	return image.Open(w.store())
}
