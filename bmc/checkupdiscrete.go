package bmc

import (
	"context"
	"fmt"
	"strings"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/sensor"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// A badState is one that a part with a sensor of states, rather than of a value,
// is not well in.
type badState struct {
	health fleet.Health
	say    string
}

// badStates are those of IPMI 2.0 table 42-3, by the sensor's type and the
// state's number. What is not here is well, such as a part that is there.
var badStates = map[types.SensorType]map[uint8]badState{
	types.SensorTypeProcessor: {
		0: {fleet.HealthCritical, "internal error"}, 1: {fleet.HealthCritical, "thermal trip"}, 2: {fleet.HealthCritical, "self-test failed"},
		3: {fleet.HealthCritical, "hangs in POST"}, 4: {fleet.HealthCritical, "did not start"}, 5: {fleet.HealthCritical, "configuration error"},
		6: {fleet.HealthCritical, "uncorrectable error"}, 8: {fleet.HealthWarning, "disabled"}, 10: {fleet.HealthWarning, "throttled"},
		11: {fleet.HealthCritical, "uncorrectable machine check"}, 12: {fleet.HealthWarning, "correctable machine check"},
	},
	types.SensorTypePowerSupply: {
		1: {fleet.HealthCritical, "failed"}, 2: {fleet.HealthWarning, "about to fail"}, 3: {fleet.HealthCritical, "has no input"},
		4: {fleet.HealthCritical, "input lost or out of range"}, 5: {fleet.HealthWarning, "input out of range"}, 6: {fleet.HealthWarning, "configuration error"},
	},
	types.SensorTypeMemory: {
		0: {fleet.HealthWarning, "correctable errors"}, 1: {fleet.HealthCritical, "uncorrectable error"}, 2: {fleet.HealthCritical, "parity error"},
		3: {fleet.HealthCritical, "scrub failed"}, 4: {fleet.HealthWarning, "disabled"}, 5: {fleet.HealthWarning, "too many correctable errors"},
		7: {fleet.HealthCritical, "configuration error"}, 9: {fleet.HealthWarning, "throttled"}, 10: {fleet.HealthCritical, "too hot"},
	},
	types.SensorTypeDriveSlot: {
		1: {fleet.HealthCritical, "failed"}, 2: {fleet.HealthWarning, "about to fail"}, 5: {fleet.HealthWarning, "in a critical array"},
		6: {fleet.HealthCritical, "in a failed array"}, 7: {fleet.HealthWarning, "is rebuilt"}, 8: {fleet.HealthWarning, "rebuild was ended"},
	},
}

// A stateful is a sensor of states, of either kind of record.
type stateful struct {
	owner  types.GeneratorID
	number uint8
	shares uint8 // how many sensors of following numbers the record is for
	kind   types.SensorType
	name   string
}

// statefulOf returns the sensor of a record when it has states that we know.
func statefulOf(sdr *types.SDR) (s stateful, ok bool) {
	var reading types.EventReadingType
	var name []byte
	switch {
	case sdr.Full != nil:
		f := sdr.Full
		s, reading, name = stateful{owner: f.GeneratorID, number: uint8(f.SensorNumber), kind: f.SensorType}, f.SensorEventReadingType, f.IDStringBytes
	case sdr.Compact != nil:
		c := sdr.Compact
		s = stateful{owner: c.GeneratorID, number: uint8(c.SensorNumber), shares: c.ShareCount, kind: c.SensorType}
		reading, name = c.SensorEventReadingType, c.IDStringBytes
	}
	s.name = fleet.CleanText(strings.ToValidUTF8(string(name), ""))
	return s, reading == types.EventReadingTypeSensorSpecific && badStates[s.kind] != nil
}

// states reads which states a sensor is in.
func (e *examination) states(ctx context.Context, s stateful) error {
	for i := range max(1, s.shares) {
		read, err := e.reading(ctx, s.owner, s.number+i)
		if err != nil {
			return err
		}
		name := s.name
		if s.shares > 1 {
			name = fmt.Sprintf("%s %d", name, i+1)
		}
		if f := judgeStates(s.kind, name, read); f.Health.Bad() {
			e.fault(f)
		}
	}
	return nil
}

// judgeStates makes a fault of the states that a part is not well in.
func judgeStates(kind types.SensorType, name string, read *sensor.GetSensorReadingResponse) fleet.Fault {
	f := fleet.Fault{Part: name}
	if read == nil {
		return f
	}
	var said []string
	for _, state := range read.ActiveStates.TrueEvents() {
		if bad, is := badStates[kind][state]; is {
			f.Health = f.Health.Worse(bad.health)
			said = append(said, bad.say)
		}
	}
	f.Detail = strings.Join(said, ", ")
	return f
}

// reading asks what a sensor shows; nil when it shows nothing now.
func (e *examination) reading(ctx context.Context, of types.GeneratorID, number uint8) (*sensor.GetSensorReadingResponse, error) {
	owner := (&client.CommandContext{}).WithResponderAddr(of.OwnerID()).WithResponderLUN(of.LUN())
	read, err := e.ipmi.GetSensorReading(client.WithCommandContext(ctx, owner), number)
	if err != nil && completion(err) != 0 {
		return nil, nil //nolint:nilerr,nilnil // not there, while the machine is off
	}
	if err != nil {
		return nil, fmt.Errorf("read sensor: %w", err)
	}
	if read.ReadingUnavailable || read.SensorScanningDisabled {
		return nil, nil //nolint:nilnil // as above
	}
	return read, nil
}
