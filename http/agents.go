package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// maxPollWait is the longest that an agent's poll is held.
const maxPollWait = 30 * time.Second

func (s *Server) agentRoutes(e *echo.Echo) {
	e.POST(api.PathHello, handle(s.hello))
	e.POST(api.PathPoll, handle(s.poll))
	e.POST(api.PathJoin, handle(s.join))
	e.POST(api.PathCertify, handle(s.certify))
	e.POST(api.PathRack, handle(s.rack))
	e.GET(api.PathImage+":name", func(c echo.Context) error {
		index, err := s.imageIndex(c.Param("name"), c.QueryParam("digest"))
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, index)
	})
}

// handle makes a route of a function of a JSON body. Fields that we do not
// know are let through: an agent may be newer than its server.
func handle[I, O any](fn func(context.Context, I) (O, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		var in I
		if err := json.NewDecoder(c.Request().Body).Decode(&in); err != nil {
			return newProblem(http.StatusBadRequest, "E-BODY", "the body is not what was expected: "+fleet.CleanText(err.Error()), "")
		}
		out, err := fn(c.Request().Context(), in)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, out)
	}
}

// hello makes a machine a node: it redeems the ticket of its boot script for
// a short-lived certificate. Everything that can be wrong with the request
// is looked at before the ticket is spent.
func (s *Server) hello(ctx context.Context, in api.HelloRequest) (api.HelloReply, error) {
	addr := callerOf(ctx).addr
	mac, err := fleet.ParseMAC(in.MAC)
	if err != nil {
		return api.HelloReply{}, err
	}
	known, _ := s.o.Engine.NodeByMAC(mac)
	if !s.hellos.allow(known, addr) {
		return api.HelloReply{}, newProblem(http.StatusTooManyRequests, "E-HELLO-RATE", "too many hellos from this address", "wait a few seconds")
	}
	uuid, err := fleet.ParseUUID(in.UUID)
	if err != nil {
		uuid = "" // firmware without one, or with nonsense: the MAC has to do
	}
	key, err := requestKey(in.CSR)
	if err != nil {
		return api.HelloReply{}, err
	}
	if in.Ticket == "" || len(in.Ticket) > 128 || in.BootID == "" || len(in.BootID) > 64 {
		return api.HelloReply{}, newProblem(http.StatusUnprocessableEntity, "E-HELLO", "ticket or boot ID is missing, or too long", "")
	}
	node, err := s.o.Engine.Hello(ctx, fleet.Hello{
		Ticket: in.Ticket, Key: key, Addr: addr, BootID: in.BootID, MAC: mac, UUID: uuid,
		Placed: s.leasedTo(mac, addr) || s.othersGive(addr), Version: fleet.CleanText(in.Version), Inventory: toInventory(in.Inventory).Clean(),
	})
	if err != nil {
		return api.HelloReply{}, err
	}
	cert, err := s.o.Authority.SignBoot([]byte(in.CSR), node.ID)
	if err != nil {
		return api.HelloReply{}, err
	}
	return api.HelloReply{NodeID: string(node.ID), Certificate: string(cert)}, nil
}

// requestKey looks at a certificate request without signing it, and returns
// the hash of its public key.
func requestKey(csrPEM string) (key [32]byte, err error) {
	block, rest := pem.Decode([]byte(csrPEM))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 || len(csrPEM) > 16<<10 {
		return key, newProblem(http.StatusUnprocessableEntity, "E-CSR", "csr is not one certificate request in PEM", "")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return key, newProblem(http.StatusUnprocessableEntity, "E-CSR", "csr cannot be read, or its signature is wrong", "")
	}
	return sha256.Sum256(req.RawSubjectPublicKeyInfo), nil
}

// poll hands an agent its next step, as soon as there is one.
func (s *Server) poll(ctx context.Context, in api.PollRequest) (api.PollReply, error) {
	who := callerOf(ctx)
	if in.Installed {
		if err := s.checkStage(who); err != nil {
			return api.PollReply{}, err
		}
	}
	if in.BootID == "" || len(in.BootID) > 64 {
		return api.PollReply{}, newProblem(http.StatusUnprocessableEntity, "E-POLL", "the boot ID is missing, or too long", "")
	}
	if in.Inventory != nil {
		if err := s.o.Engine.Refresh(ctx, who.node, toInventory(*in.Inventory)); err != nil {
			return api.PollReply{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, min(maxPollWait, max(0, time.Duration(in.Wait)*time.Second)))
	defer cancel()
	step, err := s.o.Engine.Poll(ctx, fleet.Session{
		Node: who.node, BootID: in.BootID, Installed: in.Installed, Version: fleet.CleanText(in.Version), Addr: who.addr,
	}, toReport(in.Report))
	if errors.Is(err, context.DeadlineExceeded) {
		return api.PollReply{}, nil
	}
	out := fromStep(step)
	if out != nil && out.Write != nil {
		out.Write.Chunks = []string{s.bootURL(who.addr, who.local) + api.PathChunks}
	}
	return api.PollReply{Step: out}, err
}

// join redeems a join ticket. Its answer is written nowhere.
func (s *Server) join(ctx context.Context, in api.JoinRequest) (api.JoinReply, error) {
	who := callerOf(ctx)
	if err := s.checkStage(who); err != nil {
		return api.JoinReply{}, err
	}
	order, err := s.o.Engine.RedeemJoin(ctx, who.node, in.Ticket)
	if err != nil {
		return api.JoinReply{}, err
	}
	return api.JoinReply{Token: order.Token, Managers: order.Managers, Advertise: order.Advertise}, nil
}

// certify signs the certificate of the stage that the node now belongs to.
func (s *Server) certify(ctx context.Context, in api.CertifyRequest) (api.CertifyReply, error) {
	who := callerOf(ctx)
	if _, err := requestKey(in.CSR); err != nil {
		return api.CertifyReply{}, err
	}
	if err := s.checkCertify(who); err != nil {
		return api.CertifyReply{}, err
	}
	stage, err := s.o.Engine.MayCertify(ctx, who.node)
	if err != nil {
		return api.CertifyReply{}, err
	}
	cert, err := s.o.Authority.SignStage([]byte(in.CSR), who.node, stage)
	if err != nil {
		return api.CertifyReply{}, err
	}
	return api.CertifyReply{Certificate: string(cert), ServerCA: string(s.o.Authority.CAPEM())}, nil
}

// checkCertify refuses a boot certificate once the node's install is over:
// from then on only the installed system may renew what it has.
func (s *Server) checkCertify(who caller) error {
	if who.stage != "" {
		return s.checkStage(who)
	}
	node, err := s.o.Engine.Node(string(who.node))
	if err != nil {
		return err
	}
	if node.State != fleet.Installing {
		return newProblem(http.StatusForbidden, "E-CERTIFY", "the node is "+string(node.State)+": a boot certificate is enough during its install only",
			"use the certificate of the installed system")
	}
	return nil
}

// checkStage refuses a boot certificate, and the certificate of a stage that
// the node was moved away from.
func (s *Server) checkStage(who caller) error {
	if who.stage == "" {
		return newProblem(http.StatusForbidden, "E-STAGE", "a boot certificate is not enough for this", "use the certificate of the installed system")
	}
	node, err := s.o.Engine.Node(string(who.node))
	if err != nil {
		return err
	}
	if node.Stage != who.stage {
		return newProblem(http.StatusForbidden, "E-STAGE", "the certificate is of stage "+string(who.stage)+", the node is not", "install the node again")
	}
	return nil
}

func (s *Server) imageIndex(name, digest string) (api.ImageIndex, error) {
	if !validImageName(name) {
		return api.ImageIndex{}, newProblem(http.StatusNotFound, "E-IMAGE-UNKNOWN", "no such image", "")
	}
	index, err := s.o.Images.Index(name)
	if err != nil {
		return api.ImageIndex{}, err
	}
	if digest != "" && digest != index.Digest {
		return api.ImageIndex{}, newProblem(http.StatusConflict, "E-IMAGE-CHANGED", "image "+name+" is not "+fleet.CleanText(digest)+" any more", "plan and run again")
	}
	return index, nil
}

func validImageName(name string) bool {
	if name == "" || len(name) > 128 || name[0] == '.' {
		return false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_' {
			return false
		}
	}
	return true
}
