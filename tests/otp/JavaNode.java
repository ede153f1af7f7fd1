import com.ericsson.otp.erlang.OtpErlangAtom;
import com.ericsson.otp.erlang.OtpErlangExit;
import com.ericsson.otp.erlang.OtpErlangObject;
import com.ericsson.otp.erlang.OtpErlangPid;
import com.ericsson.otp.erlang.OtpErlangTuple;
import com.ericsson.otp.erlang.OtpMbox;
import com.ericsson.otp.erlang.OtpNode;
import com.ericsson.otp.erlang.OtpNodeStatus;

/**
 * A Java node of OTP's JInterface, for the interop tests: {@code java JavaNode.java NAME COOKIE}.
 *
 * <p>It prints READY, then UP NODE and DOWN NODE for its connections, and EXIT REASON for exit signals of linked
 * processes. JInterface answers pings itself. The mailbox {@code any} handles these messages:
 *
 * <pre>
 *   {'$gen_call', {Pid, Tag}, Request}      Pid ! {Tag, yes}
 *   {echo, Pid, Term}                       Pid ! {echoed, Term}
 *   {self, Pid, _}                          Pid ! {self, the pid of the mailbox}
 *   {link, Pid, _}, {unlink, Pid, _}        links to Pid, or unlinks
 *   {exit, Pid, Reason}                     exit(Pid, Reason)
 *   {close, Pid, Reason}                    the mailbox ends with Reason, and a new one takes its place
 *   {rpc, Pid, {Module, Function, List}}    Pid ! {result, what the rex of Pid's node answers}
 * </pre>
 */
public class JavaNode {
    public static void main(String[] arguments) throws Exception {
        OtpNode node = new OtpNode(arguments[0], arguments[1]);
        node.registerStatusHandler(new OtpNodeStatus() {
            @Override public void remoteStatus(String peer, boolean up, Object info) {
                print((up ? "UP " : "DOWN ") + peer);
            }
        });
        OtpMbox mailbox = node.createMbox("any");
        print("READY");
        while (true) {
            try {
                mailbox = handle(node, mailbox, (OtpErlangTuple) mailbox.receive());
            } catch (OtpErlangExit exit) {
                print("EXIT " + exit.reason());
            } catch (Exception error) {
                print("ERROR " + error);
            }
        }
    }

    static OtpMbox handle(OtpNode node, OtpMbox mailbox, OtpErlangTuple message) throws Exception {
        String command = ((OtpErlangAtom) message.elementAt(0)).atomValue();
        OtpErlangObject argument = message.elementAt(2);
        if (command.equals("$gen_call")) {
            OtpErlangTuple from = (OtpErlangTuple) message.elementAt(1);
            mailbox.send((OtpErlangPid) from.elementAt(0), pair(from.elementAt(1), atom("yes")));
            return mailbox;
        }
        OtpErlangPid pid = (OtpErlangPid) message.elementAt(1);
        switch (command) {
            case "echo" -> mailbox.send(pid, pair(atom("echoed"), argument));
            case "self" -> mailbox.send(pid, pair(atom("self"), mailbox.self()));
            case "link" -> mailbox.link(pid);
            case "unlink" -> mailbox.unlink(pid);
            case "exit" -> mailbox.exit(pid, argument);
            case "rpc" -> {
                OtpErlangTuple call = (OtpErlangTuple) argument;
                OtpMbox caller = node.createMbox();
                OtpErlangObject request = new OtpErlangTuple(new OtpErlangObject[] {
                    atom("call"), call.elementAt(0), call.elementAt(1), call.elementAt(2), atom("user")});
                caller.send("rex", pid.node(), pair(caller.self(), request));
                mailbox.send(pid, pair(atom("result"), ((OtpErlangTuple) caller.receive()).elementAt(1)));
                caller.close();
            }
            case "close" -> {
                mailbox.exit(argument);
                return node.createMbox("any");
            }
            default -> print("UNKNOWN " + command);
        }
        return mailbox;
    }

    static OtpErlangAtom atom(String name) {
        return new OtpErlangAtom(name);
    }

    static OtpErlangTuple pair(OtpErlangObject first, OtpErlangObject second) {
        return new OtpErlangTuple(new OtpErlangObject[] {first, second});
    }

    static synchronized void print(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
