package bmc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// CheckOptions say how far a [Controller.Check] goes.
type CheckOptions struct {
	Power bool // it may switch the machine off and on
	Mode  Mode // of the machine's firmware; UEFI when empty

	ConsoleOpen bool // by us, for people or a record: it is not taken from them
}

// Check tests how far a BMC does what its standard says, and which quirks the
// drivers have to know of it. Without leave to switch the power, nothing of the
// machine changes but the boot device, which is set and taken back.
func (c *Controller) Check(ctx context.Context, t Target, o CheckOptions) (fleet.BMCCheck, error) {
	const op = "check BMC of"
	if err := t.valid(); err != nil {
		return fleet.BMCCheck{}, invalid(op, t, err)
	}
	if !t.Driver.SignsIn() || t.Driver == fleet.DriverPDU {
		return fleet.BMCCheck{}, trouble(op, t, fmt.Errorf("%w: there is no BMC behind driver %q", ErrUnsupported, t.Driver))
	}
	k := &checkup{c: c, o: o, t: t}
	if t.Driver == "" {
		k.t.Driver = fleet.DriverIPMI
	}
	k.report = fleet.BMCCheck{Began: time.Now(), Power: o.Power, Driver: k.t.Driver, Quirks: k.quirks()}
	for _, it := range checks() {
		if it.web && !k.t.Driver.Web() || it.talks && k.t.Driver == fleet.DriverAMT || it.power && !o.Power {
			continue
		}
		began := time.Now()
		found := it.do(k, ctx)
		if ctx.Err() != nil {
			if it.power {
				k.putBack(ctx)
			}
			return k.report, trouble(op, t, context.Cause(ctx))
		}
		k.report.Results = append(k.report.Results, fleet.BMCResult{
			Check: it.name, Grade: found.grade, Detail: fleet.CleanText(clipText(found.detail)), Fix: found.fix, Took: time.Since(began),
		})
		if it.first && found.grade == fleet.BMCFailed {
			break
		}
	}
	return k.report, nil
}

// A checkup is one conformance test under way.
type checkup struct {
	c      *Controller
	o      CheckOptions
	t      Target // as it is spoken to now
	report fleet.BMCCheck
	wasOff bool  // before the power was switched
	looked bool  // whether it was
	deaf   error // why nothing is said by IPMI; nil: it is, or nobody has tried
}

// quirks are those that a check cannot find out, because nothing would work
// without them. The others are found anew.
func (k *checkup) quirks() fleet.BMCQuirks {
	q := k.t.Quirks
	k.t.Quirks = fleet.BMCQuirks{
		Profile: q.Profile, Interval: q.Interval, Settle: q.Settle, CipherSuite: q.CipherSuite, NoSessions: q.NoSessions, BitRate: q.BitRate, Console: q.Console,
		BootUnreadable: q.BootUnreadable,
	}
	return k.t.Quirks
}

// need notes a quirk that the drivers have to know, and obeys it from now on.
func (k *checkup) need(change func(*fleet.BMCQuirks)) {
	change(&k.report.Quirks)
	change(&k.t.Quirks)
}

type check struct {
	name  string
	first bool // nothing else is tried when it fails
	web   bool // by Redfish only
	talks bool // by IPMI or Redfish, which AMT does not speak
	power bool // switches the power
	do    func(*checkup, context.Context) outcome
}

// checks are all of them, in their order.
func checks() []check {
	return []check{
		{name: "sign in", first: true, do: (*checkup).signIn},
		{name: "wrong password", do: (*checkup).wrongPassword},
		{name: "cipher suites", talks: true, do: (*checkup).cipherSuites},
		{name: "certificate", web: true, do: (*checkup).certificate},
		{name: "privilege", talks: true, do: (*checkup).privilege},
		{name: "sessions", talks: true, do: (*checkup).sessions},
		{name: "firmware", talks: true, do: (*checkup).model},
		{name: "system", web: true, do: (*checkup).system},
		{name: "power state", do: (*checkup).powerState},
		{name: "response time", do: (*checkup).responseTime},
		{name: "clock", talks: true, do: (*checkup).clock},
		{name: "serial console", talks: true, do: (*checkup).console},
		{name: "boot from a URL", web: true, do: (*checkup).bootURL},
		{name: "virtual media", web: true, do: (*checkup).media},
		{name: "boot device", do: (*checkup).bootDevice},
		{name: "shutdown", power: true, do: (*checkup).shutdown},
		{name: "off and on", power: true, do: (*checkup).offAndOn},
		{name: "reset", power: true, do: (*checkup).reset},
		{name: "as it was", power: true, do: (*checkup).restore},
	}
}

// An outcome is what a check has found.
type outcome struct {
	grade  fleet.BMCGrade
	detail string
	fix    string
}

func fine(format string, args ...any) outcome {
	return outcome{grade: fleet.BMCOK, detail: fmt.Sprintf(format, args...)}
}

func warn(fix, format string, args ...any) outcome {
	return outcome{fleet.BMCWarning, fmt.Sprintf(format, args...), fix}
}

func fail(fix, format string, args ...any) outcome {
	return outcome{fleet.BMCFailed, fmt.Sprintf(format, args...), fix}
}

// failed is an outcome by an error: what to do stands in the table of
// diagnoses.
func (k *checkup) failed(err error) outcome {
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Err != nil {
		err = e.Err
	}
	text := strings.TrimPrefix(err.Error(), "BMC "+k.t.Address+": ")
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return fail(fleet.Diagnose(string(a.code)).FixFor(k.t.name()), "%s", text)
		}
	}
	return fail("look at the log of the BMC of "+k.t.name(), "%s", text)
}

// unable is a warning by an error: we do without.
func (k *checkup) unable(fix string, err error) outcome {
	out := k.failed(err)
	return warn(fix, "%s", out.detail)
}

const longestDetail = 400

func clipText(s string) string { return strings.ToValidUTF8(s[:min(len(s), longestDetail)], "") }

// round makes a time readable.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
