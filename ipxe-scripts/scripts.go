package ipxescripts

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed *.ipxe
var files embed.FS

// Scripts are the scripts, read once.
type Scripts struct{ t *template.Template }

// Load reads the scripts. It fails only when one of them is wrong.
func Load() (*Scripts, error) {
	t, err := template.New("").Option("missingkey=error").ParseFS(files, "*.ipxe")
	if err != nil {
		return nil, fmt.Errorf("read iPXE scripts: %w", err)
	}
	return &Scripts{t}, nil
}

// Agent is what a machine needs to boot the agent's ramdisk.
type Agent struct {
	Title  string   // what people call the machine
	Server string   // our address, for people
	Kernel string   // URL
	Initrd string   // URL
	Args   []string // kernel arguments beside those of every boot, each "key" or "key=value"
}

// Agent returns the script that boots the ramdisk. An argument that has to be
// escaped is an error: the kernel would not undo it.
func (s *Scripts) Agent(a Agent) ([]byte, error) {
	args := make([]word, len(a.Args))
	for i, arg := range a.Args {
		if arg == "" || Escape(arg) != arg || strings.ContainsRune(arg, '%') {
			return nil, fmt.Errorf("kernel argument %q has characters that cannot be passed on", arg)
		}
		args[i] = word(arg)
	}
	return s.render("agent.ipxe", map[string]any{
		"Title": text(a.Title), "Server": word(a.Server), "Kernel": word(a.Kernel), "Initrd": word(a.Initrd), "Args": args,
	})
}

// AutoExec returns the script that iPXE asks for first. base is the URL of the
// boot listener as the machine sees it, path that of the machines' scripts.
func (s *Scripts) AutoExec(base, path string) ([]byte, error) {
	return s.render("autoexec.ipxe", map[string]any{"Base": word(base), "Path": word(path)})
}

// Local returns the script that boots from disk.
func (s *Scripts) Local(title string) ([]byte, error) {
	return s.render("local.ipxe", map[string]any{"Title": text(title)})
}

// Wait returns the script that says why there is nothing to boot.
func (s *Scripts) Wait(title, reason string) ([]byte, error) {
	return s.render("wait.ipxe", map[string]any{"Title": text(title), "Reason": text(reason)})
}

func (s *Scripts) render(name string, data map[string]any) ([]byte, error) {
	var b bytes.Buffer
	if err := s.t.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", name, err)
	}
	return b.Bytes(), nil
}
