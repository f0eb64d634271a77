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
	return newListCmd(a, lister[api.Image]{
		use:   "list",
		short: "List the images in the store",
		flags: func(cmd *cobra.Command) { addSettings(cmd.Flags(), "state_dir") },
		read: func(cmd *cobra.Command) (images []api.Image, err error) {
			store, err := w.open(cmd)
			if err != nil {
				return nil, err
			}
			infos, err := store.List()
			for _, i := range infos {
				images = append(images, toImage(i))
			}
			return images, err
		},
		show: imageListing,
	})
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
