package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"path"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// Pages are the parsed templates and the files that they refer to.
type Pages struct {
	tmpl   *template.Template
	assets map[string]Asset
}

// An Asset is one file of the console.
type Asset struct {
	Type string // media type
	Tag  string // strong ETag
	Data []byte
}

// Load parses the pages. Its error is a fault in an embedded file.
func Load() (*Pages, error) {
	p := &Pages{assets: map[string]Asset{}}
	names, err := fs.Glob(assetFiles, "assets/*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := assetFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		p.assets[path.Base(name)] = Asset{Type: mediaType(name), Tag: hex.EncodeToString(sum[:8]), Data: data}
	}
	p.tmpl, err = template.New("").Option("missingkey=error").Funcs(template.FuncMap{"asset": p.link}).ParseFS(pageFiles, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse pages: %w", err)
	}
	return p, nil
}

// Render executes a page, or a part of one, whole: a page is sent complete or
// not at all.
func (p *Pages) Render(name string, view any) ([]byte, error) {
	var out bytes.Buffer
	if err := p.tmpl.ExecuteTemplate(&out, name, view); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// Asset returns a file of the console.
func (p *Pages) Asset(name string) (Asset, bool) {
	a, ok := p.assets[name]
	return a, ok
}

// link is the address of a file, with its content's hash: browsers may keep
// it for ever.
func (p *Pages) link(name string) (string, error) {
	a, ok := p.assets[name]
	if !ok {
		return "", fmt.Errorf("no asset %q", name)
	}
	return "/assets/" + name + "?v=" + a.Tag, nil
}

func mediaType(name string) string {
	switch path.Ext(name) {
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return mime.TypeByExtension(path.Ext(name))
	}
}
