package fleet

import (
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
)

// Validate checks that a site makes sense: names are names, references lead
// somewhere, ranges lie in their subnets. It returns every fault, not only
// the first; each is an [Error] whose On is a path into the site, such as
// "pools[prd].stage".
func (s Site) Validate() error {
	return errors.Join(s.validateStages(), s.validateProfiles(), s.validatePools(), s.validateSubnets(), s.validateRules(), s.validateScripts(), s.validateQuirks(), s.validateFactory(), s.validateFirmware(), s.validateBMCProfiles())
}

func (s Site) validateStages() error {
	var errs []error
	for i, st := range s.Stages {
		on := fmt.Sprintf("stages[%d].name", i)
		if !ValidName(string(st.Name)) {
			errs = append(errs, badName(on, string(st.Name)))
		}
		if slices.IndexFunc(s.Stages, func(o Stage) bool { return o.Name == st.Name }) != i {
			errs = append(errs, Invalidf(on, "", fmt.Errorf("stage %q is declared twice", st.Name)))
		}
	}
	return errors.Join(errs...)
}

func (s Site) validateProfiles() error {
	var errs []error
	for i, p := range s.Profiles {
		on := fmt.Sprintf("profiles[%d]", i)
		if !ValidName(p.Name) {
			errs = append(errs, badName(on+".name", p.Name))
		}
		if p.Image == "" {
			errs = append(errs, Invalidf(on+".image", "name an image; see: provision images list", errors.New("no image")))
		}
		if err := p.validateBIOS(on); err != nil {
			errs = append(errs, err)
		}
		for _, a := range p.Kernel {
			if strings.ContainsAny(a, "\r\n\x00 ") {
				errs = append(errs, Invalidf(on+".kernel", "", fmt.Errorf("kernel argument %q contains a space or control character", a)))
			}
		}
		for _, k := range p.SSHKey {
			if strings.ContainsAny(k, "\r\n\x00") || len(strings.Fields(k)) < 2 {
				errs = append(errs, Invalidf(on+".ssh_keys", "give each key on one line: ssh-ed25519 AAAA… comment", errors.New("not an SSH public key")))
			}
		}
	}
	return errors.Join(errs...)
}

func (s Site) validatePools() error {
	var errs []error
	for i, p := range s.Pools {
		on := fmt.Sprintf("pools[%d]", i)
		if !ValidName(string(p.Name)) {
			errs = append(errs, badName(on+".name", string(p.Name)))
		}
		if slices.IndexFunc(s.Pools, func(o Pool) bool { return o.Name == p.Name }) != i {
			errs = append(errs, Invalidf(on+".name", "", fmt.Errorf("pool %q is declared twice", p.Name)))
		}
		if !slices.ContainsFunc(s.Stages, func(st Stage) bool { return st.Name == p.Stage }) {
			errs = append(errs, Invalidf(on+".stage", didYouMean(string(p.Stage), s.stageNames()), fmt.Errorf("no stage %q", p.Stage)))
		}
		if _, ok := s.Profile(p.Profile); !ok {
			errs = append(errs, Invalidf(on+".profile", didYouMean(p.Profile, s.profileNames()), fmt.Errorf("no profile %q", p.Profile)))
		}
		errs = append(errs, s.validateCluster(on, p), validateOptions(on, p.Options, false))
	}
	return errors.Join(errs...)
}

// validateCluster checks the managers of a pool's cluster. All pools of a
// stage with the same kind of cluster are in one cluster: their managers add
// up.
func (s Site) validateCluster(on string, p Pool) error {
	if p.Cluster != Swarm && p.Cluster != NoCluster {
		return Invalidf(on+".cluster", "use swarm or none", fmt.Errorf("unknown cluster kind %q", p.Cluster))
	}
	if p.Cluster == NoCluster {
		return nil
	}
	sum := 0
	for _, o := range s.Pools {
		if o.Stage == p.Stage && o.Cluster == p.Cluster {
			sum += o.Managers
		}
	}
	if p.Managers < 0 || sum < 1 || sum%2 == 0 {
		return Invalidf(on+".managers", "use 1, 3, 5 or 7 for all pools of the stage together: an even number tolerates no more failures than one less",
			fmt.Errorf("stage %s has %d managers", p.Stage, sum))
	}
	return nil
}

func (s Site) validateRules() error {
	var errs []error
	for i, r := range s.Rules {
		on := fmt.Sprintf("rules[%d]", i)
		if _, ok := s.Pool(r.Pool); !ok && r.Pool != "" {
			errs = append(errs, Invalidf(on+".pool", didYouMean(string(r.Pool), s.poolNames()), fmt.Errorf("no pool %q", r.Pool)))
		}
		if r.Role != "" && r.Role != Manager && r.Role != Worker {
			errs = append(errs, Invalidf(on+".role", "use manager or worker", fmt.Errorf("unknown role %q", r.Role)))
		}
		if !validMACPrefix(r.Match.MACPrefix) {
			errs = append(errs, Invalidf(on+".match.mac", "write the first bytes with colons: 52:54:00", fmt.Errorf("MAC prefix %q", r.Match.MACPrefix)))
		}
		if _, err := path.Match(r.Match.AssetTag, ""); err != nil {
			errs = append(errs, Invalidf(on+".match.asset_tag", "", err))
		}
		errs = append(errs, validateBMC(on+".bmc", r.BMC))
		if r.Match.Subnet != "" && !slices.ContainsFunc(s.Subnets, func(n Subnet) bool { return n.Name == r.Match.Subnet }) {
			errs = append(errs, Invalidf(on+".match.subnet", "", fmt.Errorf("no subnet %q", r.Match.Subnet)))
		}
	}
	return errors.Join(errs...)
}

func validMACPrefix(p string) bool {
	if p == "" {
		return true
	}
	const zero = "00:00:00:00:00:00"
	if len(p) > len(zero) || len(p)%3 != 2 {
		return false
	}
	_, err := net.ParseMAC(p + zero[len(p):])
	return err == nil
}

func badName(on, name string) error {
	return Invalidf(on, "use lower-case letters, digits and dashes, at most 63", fmt.Errorf("%q is not a name", clip(name, 80)))
}

func (s Site) stageNames() (names []string) {
	for _, st := range s.Stages {
		names = append(names, string(st.Name))
	}
	return names
}

func (s Site) poolNames() (names []string) {
	for _, p := range s.Pools {
		names = append(names, string(p.Name))
	}
	return names
}

func (s Site) profileNames() (names []string) {
	for _, p := range s.Profiles {
		names = append(names, p.Name)
	}
	return names
}

func didYouMean(got string, have []string) string {
	if near := Nearest(got, have); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(have) == 0 {
		return "declare one first"
	}
	return "declared are: " + strings.Join(have, ", ")
}
