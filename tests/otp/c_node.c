/* A C node of OTP's library ei, for the interop tests.
 *
 *   c_node ALIVE COOKIE          waits for connections
 *   c_node ALIVE COOKIE PEER     connects to PEER
 *
 * It prints READY, then RECEIVED TYPE for each message (the numbers of ei.h), and CLOSED at the end of a connection.
 * It answers these messages, whatever name or pid they are sent to:
 *
 *   {'$gen_call', {Pid, Tag}, Request}      Pid ! {Tag, yes}
 *   {echo, Pid, Term}                       Pid ! {echoed, Term}
 *   {self, Pid, _}                          Pid ! {self, its own pid}
 *   {rpc, Pid, {Module, Function, List}}    Pid ! {result, what the peer's rex answers}
 */
#include <ei.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOST "127.0.0.1"

static void print_line(const char *text, long number) {
    printf("%s %ld\n", text, number);
    fflush(stdout);
}

/* Send {Key, Term} to a process, where Term is `size` encoded bytes without the version byte. */
static void answer(int fd, erlang_pid *to, const char *key, const char *term, int size) {
    ei_x_buff out;
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_encode_atom(&out, key);
    ei_x_append_buf(&out, term, size);
    ei_send(fd, to, out.buff, out.index);
    ei_x_free(&out);
}

static void answer_call(int fd, const char *term, int at) {
    int arity, tag_start, tag_end;
    erlang_pid from;
    ei_x_buff out;
    if (ei_decode_tuple_header(term, &at, &arity) || arity != 2 || ei_decode_pid(term, &at, &from)) return;
    tag_start = tag_end = at;
    if (ei_skip_term(term, &tag_end)) return;
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_append_buf(&out, term + tag_start, tag_end - tag_start);
    ei_x_encode_atom(&out, "yes");
    ei_send(fd, &from, out.buff, out.index);
    ei_x_free(&out);
}

static void call_rex(ei_cnode *node, int fd, erlang_pid *to, const char *term, int at) {
    int arity, end;
    char module[MAXATOMLEN_UTF8], function[MAXATOMLEN_UTF8];
    ei_x_buff result;
    if (ei_decode_tuple_header(term, &at, &arity) || arity != 3) return;
    if (ei_decode_atom(term, &at, module) || ei_decode_atom(term, &at, function)) return;
    end = at;
    if (ei_skip_term(term, &end)) return;
    ei_x_new(&result);
    if (ei_rpc(node, fd, module, function, term + at, end - at, &result) >= 0)
        answer(fd, to, "result", result.buff, result.index);
    ei_x_free(&result);
}

static void handle(ei_cnode *node, int fd, const char *term, int size) {
    int at = 0, version, arity;
    char command[MAXATOMLEN_UTF8];
    erlang_pid from;
    if (ei_decode_version(term, &at, &version) || ei_decode_tuple_header(term, &at, &arity)) return;
    if (arity != 3 || ei_decode_atom(term, &at, command)) return;
    if (!strcmp(command, "$gen_call")) {
        answer_call(fd, term, at);
        return;
    }
    if (ei_decode_pid(term, &at, &from)) return;
    if (!strcmp(command, "echo")) answer(fd, &from, "echoed", term + at, size - at);
    if (!strcmp(command, "rpc")) call_rex(node, fd, &from, term, at);
    if (!strcmp(command, "self")) {
        ei_x_buff self;
        ei_x_new(&self);
        ei_x_encode_pid(&self, ei_self(node));
        answer(fd, &from, "self", self.buff, self.index);
        ei_x_free(&self);
    }
}

static void serve(ei_cnode *node, int fd) {
    int got;
    erlang_msg message;
    ei_x_buff in;
    ei_x_new(&in);
    while (in.index = 0, (got = ei_xreceive_msg(fd, &message, &in)) != ERL_ERROR) {
        if (got == ERL_TICK) continue;
        print_line("RECEIVED", message.msgtype);
        if (message.msgtype == ERL_SEND || message.msgtype == ERL_REG_SEND) handle(node, fd, in.buff, in.index);
    }
    print_line("CLOSED", erl_errno);
    ei_x_free(&in);
    close(fd);
}

int main(int count, char **arguments) {
    ei_cnode node;
    ErlConnect peer;
    struct in_addr address;
    char name[MAXNODELEN + 1];
    int port = 0, listener, fd;
    if (count < 3 || ei_init()) return 2;
    address.s_addr = inet_addr(HOST);
    snprintf(name, sizeof name, "%s@" HOST, arguments[1]);
    if (ei_connect_xinit(&node, HOST, arguments[1], name, &address, arguments[2], 1) < 0) return 3;
    if (count > 3) {
        if ((fd = ei_connect(&node, arguments[3])) < 0) return 4;
        print_line("READY", fd);
        serve(&node, fd);
        return 0;
    }
    if ((listener = ei_listen(&node, &port, 5)) < 0 || ei_publish(&node, port) < 0) return 5;
    print_line("READY", port);
    for (;;)
        if ((fd = ei_accept(&node, listener, &peer)) >= 0) serve(&node, fd);
}
