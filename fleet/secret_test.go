package fleet

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestASecretShowsItselfToNobody(t *testing.T) {
	const secret = "Tr0ub4dor"
	order := BMCOrder{Username: "provision", Password: secret}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "password", order.Password, "order", order)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", order.Password, "order", order)
	encoded, err := json.Marshal(Step{Kind: StepBMC, BMC: &order})
	if err != nil {
		t.Fatal(err)
	}
	shown := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, order) + fmt.Sprintf(verb, order.Password)
	}
	for _, s := range []string{secret, fmt.Sprintf("%x", secret)} {
		if strings.Contains(shown, s) {
			t.Errorf("%q is in %s", s, shown)
		}
	}
	if string(order.Password) != secret {
		t.Error("a conversion does not bring it out")
	}
}
