defmodule Erlmesh do
  @moduledoc """
  Python nodes under an Elixir supervisor, and calls of their functions.

  This file has no dependencies. Use it as a library, or copy it into a project.

      children = [
        {Erlmesh.Python, name: MyApp.Model, app: "model:main", expose: ["model"], python: "/opt/model/bin/python"}
      ]

      Erlmesh.call(MyApp.Model, "model", "predict", [image])
      # {:ok, 0.97}

  * `Erlmesh.Python` starts `erlmesh start --under-port`, and ends it in every case.
  * `Erlmesh.Module` makes the exposed functions of a Python module functions of an Elixir module.
  * `Erlmesh.Child` supervises a process that runs on a Python node.

  ## Telemetry

  If `:telemetry` is loaded, these events are executed. Durations are in native time units.

  | event | measurements | metadata |
  |---|---|---|
  | `[:erlmesh, :call, :stop]` | `duration` | `node`, `module`, `function`, `arity` |
  | `[:erlmesh, :call, :exception]` | `duration` | the same and `error` |
  | `[:erlmesh, :python, :start]` | `duration` of the start | `node`, `os_pid` |
  | `[:erlmesh, :python, :stop]` | `duration` of its life | `node`, `reason` |
  | `[:erlmesh, :python, :nodedown]`, `[:erlmesh, :python, :nodeup]` | `system_time` | `node` |
  """

  @typedoc "A server `Erlmesh.Python` by its name or pid, or the name of any connected Python node."
  @type python :: GenServer.server() | node()

  @doc """
  Calls an exposed function of a Python node.

  Module and function are strings or atoms. A string becomes an atom, so it must not come from user input.

  Returns `{:ok, value}`, or `{:error, exception}` with an `Erlmesh.PythonError` if the function raised, or else an
  `Erlmesh.CallError`. After `timeout` milliseconds the function may still run; its result is dropped.

  While the server starts for the first time, the call waits for it. `timeout` includes this.
  """
  @spec call(python, atom | String.t(), atom | String.t(), [term], timeout) ::
          {:ok, term} | {:error, Exception.t()}
  def call(python, module, function, arguments \\ [], timeout \\ 5_000) when is_list(arguments) do
    started = System.monotonic_time()
    target = {to_name(module), to_name(function), arguments}

    {node, result} =
      case Erlmesh.Python.fetch_node(python, timeout) do
        {:ok, node} -> {node, call_node(node, target, time_left(timeout, started))}
        {:error, exception} -> {nil, {:error, exception}}
      end

    measure_call(node, target, System.monotonic_time() - started, result)
    result
  end

  @doc "The same as `call/5`, but returns the value, or raises."
  @spec call!(python, atom | String.t(), atom | String.t(), [term], timeout) :: term
  def call!(python, module, function, arguments \\ [], timeout \\ 5_000) do
    case call(python, module, function, arguments, timeout) do
      {:ok, value} -> value
      {:error, exception} -> raise exception
    end
  end

  defp to_name(name) when is_atom(name), do: name
  defp to_name(name) when is_binary(name), do: String.to_atom(name)

  defp time_left(:infinity, _started), do: :infinity

  defp time_left(timeout, started) do
    spent = System.convert_time_unit(System.monotonic_time() - started, :native, :millisecond)
    max(timeout - spent, 0)
  end

  defp call_node(node, {module, function, arguments} = target, timeout) do
    {:ok, :erpc.call(node, module, function, arguments, timeout)}
  catch
    kind, reason -> {:error, to_exception(kind, reason, node, target, timeout)}
  end

  defp to_exception(:error, {:erpc, :noconnection}, node, target, _timeout) do
    text = "#{node} is not connected. Is it running, and does it have the same cookie?"
    Erlmesh.CallError.new(:noconnection, node, target, text)
  end

  defp to_exception(:error, {:erpc, :timeout}, node, target, timeout) do
    Erlmesh.CallError.new(:timeout, node, target, "#{node} did not answer within #{timeout} ms")
  end

  defp to_exception(:error, {:exception, :undef, stack}, node, target, _timeout) do
    {module, function, arguments} = target

    text =
      case stack do
        [{^module, ^function, _, _} | _] ->
          "#{module}.#{function}/#{length(arguments)} is not exposed on #{node}. Mark it with @expose, and " <>
            "name its module in expose:"

        _ ->
          "a function that it calls does not exist: #{inspect(stack, limit: 20)}"
      end

    Erlmesh.CallError.new(:undef, node, target, text)
  end

  defp to_exception(:error, {:exception, {:overloaded, text}, _}, node, target, _timeout) do
    Erlmesh.CallError.new(:overloaded, node, target, "#{node} is overloaded: #{printable(text)}")
  end

  defp to_exception(:error, {:exception, {type, text}, stack}, node, target, _timeout)
       when is_atom(type) and is_binary(text) do
    Erlmesh.PythonError.new(type, text, stack, node, target)
  end

  defp to_exception(kind, reason, node, target, _timeout) do
    text = "#{kind}: #{inspect(reason, limit: 50, printable_limit: 2_000)}"
    Erlmesh.CallError.new({kind, reason}, node, target, text)
  end

  defp measure_call(node, {module, function, arguments}, duration, result) do
    metadata = %{node: node, module: module, function: function, arity: length(arguments)}

    case result do
      {:ok, _} ->
        telemetry([:call, :stop], %{duration: duration}, metadata)

      {:error, exception} ->
        telemetry([:call, :exception], %{duration: duration}, Map.put(metadata, :error, exception))
    end
  end

  @doc false
  def telemetry(event, measurements, metadata) do
    # It is not a dependency, so the compiler must not know the module.
    if function_exported?(:telemetry, :execute, 3) do
      apply(:telemetry, :execute, [[:erlmesh | event], measurements, metadata])
    end

    :ok
  end

  @doc false
  def printable(text) when is_binary(text) do
    if String.valid?(text), do: text, else: :unicode.characters_to_binary(text, :latin1)
  end

  def printable(term), do: inspect(term, limit: 50, printable_limit: 2_000)
end

defmodule Erlmesh.CallError do
  @moduledoc """
  A call did not reach a Python function, or got no answer.

  `reason` is `:noconnection`, `:timeout`, `:undef`, `:overloaded`, `:noproc` (there is no such `Erlmesh.Python`) or
  `{kind, reason}` for the exit and throw of the function.
  """
  defexception [:reason, :node, :mfa, :message]

  @doc false
  def new(reason, node, {module, function, arguments}, text) do
    mfa = {module, function, length(arguments)}
    %__MODULE__{reason: reason, node: node, mfa: mfa, message: text}
  end
end

defmodule Erlmesh.PythonError do
  @moduledoc """
  A Python function raised an exception.

  `type` is the name of its class, as an atom. `text` is what it says. `stack` is a list of
  `{module, function, arity, [file: file, line: line]}`, the innermost call first.
  """
  defexception [:type, :text, :stack, :node, :mfa]

  @max_frames 20

  @doc false
  def new(type, text, stack, node, {module, function, arguments}) do
    mfa = {module, function, length(arguments)}
    %__MODULE__{type: type, text: Erlmesh.printable(text), stack: stack, node: node, mfa: mfa}
  end

  @impl true
  def message(%{type: type, text: text, stack: stack, node: node}) do
    frames = for frame <- Enum.take(List.wrap(stack), @max_frames), do: ["\n    ", format_frame(frame)]
    IO.iodata_to_binary(["#{type}: #{text} (on #{node})" | frames])
  end

  defp format_frame({module, function, arity, location}) when is_list(location) do
    line = if line = location[:line], do: "#{location[:file]}:#{line}: ", else: ""
    arity = if is_list(arity), do: length(arity), else: arity
    "#{line}#{module}.#{function}/#{arity}"
  rescue
    _ -> inspect(location, limit: 20)
  end

  defp format_frame(other), do: inspect(other, limit: 20)
end

defmodule Erlmesh.StartError do
  @moduledoc "A Python node did not start. The message has the last lines of its log."
  defexception [:message, :log]
end

defmodule Erlmesh.ExitError do
  @moduledoc """
  A Python node ended by itself, or its connection was lost for too long. The message has the last lines of its log.

  `status` is the exit status: 128 + the number of a signal, or nil.
  """
  defexception [:message, :status, :log]
end

defmodule Erlmesh.Python do
  @moduledoc """
  A Python node as a child of a supervisor.

      {Erlmesh.Python, name: MyApp.Model, app: "model:main", python: "/opt/model/bin/python", cd: "/opt/model"}

  `start_link/1` returns when the Python node is connected with this node and knows its process groups. Python gets the
  cookie of this node on its stdin. So neither `ps` nor the environment shows it.

  Python ends with this process, and with this BEAM: in order at a shutdown, within `:grace`, and by force if it does not
  react. Processes that Python has started end with it, unless they have made a process group of their own.

  Records of Python's `logging` and lines that it prints go to `Logger`, with the metadata `:python` (the node) and
  `:python_logger`.

  ## Options

    * `:name` - the name of this server. It is needed if there are several.
    * `:app` - `"module:function"`: an `async def function(me)` that runs as a process of the node. When it ends, the
      node ends.
    * `:expose` - a Python module, or a list of them, whose functions other nodes may call. `"name=module"` gives it
      another name.
    * `:wait_for` - a registered name of Python, or a list of them. The start waits until these processes exist. Without
      it, the process of `:app` may still load its model when `start_link/1` returns.
    * `:python` - the interpreter that has erlmesh installed. Default `"python3"`. A list is a command with its first
      arguments.
    * `:cd` - the working folder. Python finds modules there.
    * `:env` - a map or a list of environment variables. `nil` removes one.
    * `:node` - the name of the Python node, `:"model@10.0.0.7"` or `"model"`. Without a host it gets the host of this
      node. Default: the names of this node and of this server.
    * `:hidden` - true makes it a hidden node. Default false.
    * `:grace` - milliseconds that it gets to finish its work when it stops. Default 8,000.
    * `:start_timeout` - milliseconds for the start. Default 60,000.
    * `:reconnect_timeout` - milliseconds after which this server ends if Python runs but is not connected. Default
      30,000.
    * `:args` - further arguments of `erlmesh start`, such as `["--tls-cert", "cert.pem"]`.
    * `:id` - the id of the child specification. Default: the name.
  """

  use GenServer
  require Logger

  @defaults [
    name: nil,
    id: nil,
    app: nil,
    expose: [],
    wait_for: [],
    python: "python3",
    cd: nil,
    env: [],
    node: nil,
    hidden: false,
    grace: 8_000,
    start_timeout: 60_000,
    reconnect_timeout: 30_000,
    args: []
  ]
  @max_line_length 262_144
  @max_waiting 5_000
  @max_waiting_bytes 2_000_000
  @report_interval 1_000
  @log_lines 20
  @log_line_length 2_000
  # The guard of the node kills it two seconds after its grace.
  @stop_margin 3_000
  @kill_timeout 1_000
  @reconnect_interval 500
  @exit_status_limit 2_000
  # A release exports its cookie. It must not be in the environment of Python. Variables with flags of `erl`, such as
  # ERL_AFLAGS, may have it too.
  @removed_variables ~w(RELEASE_COOKIE ERLMESH_COOKIE ERLMESH_COOKIE_FILE ERLMESH_NAME ERLMESH_HIDDEN ERLMESH_WORKERS)
  @advice "Give the path of a Python that has erlmesh: python: \"/opt/app/bin/python\""
  @levels %{
    "debug" => :debug,
    "info" => :info,
    "warning" => :warning,
    "error" => :error,
    "critical" => :critical
  }

  @doc false
  def child_spec(options) do
    options = Keyword.validate!(options, @defaults)

    %{
      id: options[:id] || options[:name] || __MODULE__,
      start: {__MODULE__, :start_link, [options]},
      # It waits for Python by itself. The margin is for its own last steps.
      shutdown: options[:grace] + @stop_margin + 3 * @kill_timeout
    }
  end

  @doc """
  Starts Python and waits until its node is connected.

  Returns `{:error, {%Erlmesh.StartError{}, []}}` if it does not start.
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    options = Keyword.validate!(options, @defaults)
    server_options = if options[:name], do: [name: options[:name]], else: []
    GenServer.start_link(__MODULE__, options, server_options)
  end

  @doc "The name of the Python node."
  @spec node_name(GenServer.server()) :: node()
  def node_name(server) do
    case fetch_node(server) do
      {:ok, node} -> node
      {:error, exception} -> raise exception
    end
  end

  @doc "The operating system process of the Python node."
  @spec os_pid(GenServer.server()) :: pos_integer
  def os_pid(server), do: GenServer.call(server, :os_pid)

  @doc false
  # Waits for a server that starts, for `timeout` milliseconds.
  def fetch_node(python, timeout \\ 5_000)

  def fetch_node(python, timeout) when is_atom(python) do
    # The name of the node stays while the server restarts, so a call does not have to ask the server.
    case :persistent_term.get({__MODULE__, python}, nil) do
      nil ->
        if String.contains?(Atom.to_string(python), "@"), do: {:ok, python}, else: ask_node(python, timeout)

      node ->
        {:ok, node}
    end
  end

  def fetch_node(python, timeout), do: ask_node(python, timeout)

  defp ask_node(server, timeout) do
    {:ok, GenServer.call(server, :node, timeout)}
  catch
    :exit, {:timeout, _} ->
      call_error(
        :noconnection,
        "#{inspect(server)} still starts its Python node: it was not ready within #{timeout} ms"
      )

    :exit, {{%{__exception__: true} = error, _}, _} ->
      call_error(:noconnection, "#{inspect(server)} has ended: #{Exception.message(error)}")

    :exit, {reason, _} when reason in [:normal, :shutdown, :killed] ->
      call_error(:noconnection, "#{inspect(server)} has ended: #{reason}")

    :exit, _ ->
      call_error(:noproc, "there is no Erlmesh.Python #{inspect(server)}. Is it in the supervision tree?")
  end

  defp call_error(reason, text), do: {:error, %Erlmesh.CallError{reason: reason, message: text}}

  # The server

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    started = System.monotonic_time()

    with :ok <- check_alive(),
         {:ok, state} <- open(options),
         {:ok, state} <- await_ready(state, deadline(options[:start_timeout])) do
      if options[:name], do: remember(options[:name], state.node)
      Node.monitor(state.node, true)
      duration = System.monotonic_time() - started
      Erlmesh.telemetry([:python, :start], %{duration: duration}, %{node: state.node, os_pid: state.os_pid})
      {:ok, %{state | started: System.monotonic_time()}}
    else
      {:error, exception} -> {:stop, {exception, []}}
      {:exit, reason} -> {:stop, reason}
    end
  end

  @impl true
  def handle_call(:node, _from, state), do: {:reply, state.node, state}
  def handle_call(:os_pid, _from, state), do: {:reply, state.os_pid, state}

  @impl true
  def handle_info({port, {:data, data}}, %{port: port} = state) do
    {_, state} = handle_data(data, state)
    {:noreply, state}
  end

  def handle_info({port, {:exit_status, 0}}, %{port: port} = state) do
    {:stop, :normal, %{state | port: nil}}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    # If the guard itself was killed, children of the node may be left.
    if status == 137, do: kill(%{state | guard_pid: nil})
    {:stop, {exit_error(describe_status(status), status, state), []}, %{state | port: nil}}
  end

  def handle_info({:EXIT, port, reason}, %{port: port} = state) do
    {:stop, {exit_error("its port closed: #{inspect(reason)}", nil, state), []}, %{state | port: nil}}
  end

  def handle_info({:nodedown, node}, %{node: node} = state) do
    # If Python has ended, its exit status comes now. So the log says nothing of the connection yet.
    Process.send_after(self(), :reconnect, @reconnect_interval)
    {:noreply, %{state | down_since: System.monotonic_time(:millisecond)}}
  end

  def handle_info(:reconnect, state), do: reconnect(state)

  def handle_info(:guard_killed, state) do
    kill(%{state | guard_pid: nil})
    {:stop, {exit_error("its guard was killed", nil, state), []}, state}
  end

  # The port of a `System.cmd`.
  def handle_info({:EXIT, port, _reason}, state) when is_port(port), do: {:noreply, state}
  def handle_info({:EXIT, _pid, reason}, state), do: {:stop, reason, state}
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(reason, state) do
    state = stop_python(state)
    duration = System.monotonic_time() - state.started
    Erlmesh.telemetry([:python, :stop], %{duration: duration}, %{node: state.node, reason: reason})
  end

  # Starting

  defp check_alive do
    if Node.alive?() do
      :ok
    else
      text =
        "this node has no name, so Python cannot connect to it. Start it with --name or --sname, or a release with RELEASE_DISTRIBUTION"

      {:error, %Erlmesh.StartError{message: text, log: []}}
    end
  end

  defp open(options) do
    [program | first] = List.wrap(options[:python])
    node = python_node(options)

    with :ok <- check_folder(options[:cd]), {:ok, executable} <- find_program(program, options[:cd]) do
      port_options = [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        :hide,
        args: first ++ arguments(node, options),
        env: environment(options[:env])
      ]

      port_options = if options[:cd], do: [{:cd, options[:cd]} | port_options], else: port_options
      port = Port.open({:spawn_executable, executable}, port_options)
      Port.command(port, [Atom.to_string(Node.get_cookie()), ?\n])

      {:ok,
       %{
         port: port,
         node: node,
         os_pid: nil,
         guard_pid: guard_pid(port),
         grace: options[:grace],
         reconnect_timeout: options[:reconnect_timeout],
         started: System.monotonic_time(),
         down_since: nil,
         warned: false,
         partial: "",
         overloaded: false,
         dropped: 0,
         reported: nil,
         log: []
       }}
    end
  rescue
    error in [ErlangError, ArgumentError] ->
      text = "cannot run #{inspect(options[:python])}: #{Exception.message(error)}"
      {:error, %Erlmesh.StartError{message: text, log: []}}
  end

  defp guard_pid(port) do
    case Port.info(port, :os_pid) do
      {:os_pid, pid} -> pid
      nil -> nil
    end
  end

  # The port would end with a status that says nothing.
  defp check_folder(nil), do: :ok

  defp check_folder(folder) do
    if File.dir?(folder),
      do: :ok,
      else: {:error, %Erlmesh.StartError{message: "there is no folder #{folder} (cd:)", log: []}}
  end

  defp find_program(program, cd) do
    found =
      if String.contains?(program, "/") do
        path = if cd, do: Path.expand(program, cd), else: Path.expand(program)
        if File.exists?(path), do: path
      else
        System.find_executable(program)
      end

    if found do
      {:ok, found}
    else
      {:error, %Erlmesh.StartError{message: "there is no program #{program}. #{@advice}", log: []}}
    end
  end

  defp arguments(node, options) do
    grace = :erlang.float_to_binary(max(options[:grace], 1) / 1000, decimals: 3)

    ["-m", "erlmesh", "start", "--under-port", "--name", Atom.to_string(node)] ++
      ["--join", Atom.to_string(Node.self()), "--grace", grace] ++
      if(options[:hidden], do: ["--hidden"], else: []) ++
      if(options[:app], do: ["--app", options[:app]], else: []) ++
      Enum.flat_map(List.wrap(options[:expose]), &["--expose", &1]) ++
      Enum.flat_map(List.wrap(options[:wait_for]), &["--wait-for", to_string(&1)]) ++ options[:args]
  end

  defp environment(variables) do
    flags = for {name, value} <- System.get_env(), String.contains?(value, "-setcookie"), do: name
    removed = for name <- @removed_variables ++ flags, do: {String.to_charlist(name), false}

    removed ++
      for {name, value} <- variables do
        value = if is_nil(value), do: false, else: String.to_charlist(to_string(value))
        {String.to_charlist(to_string(name)), value}
      end
  end

  defp python_node(options) do
    [alive, host] = String.split(Atom.to_string(Node.self()), "@", parts: 2)

    case to_string(options[:node] || "#{alive}-#{server_name(options[:name])}") do
      name ->
        [name | given_host] = String.split(name, "@", parts: 2)
        String.to_atom("#{Regex.replace(~r/[^A-Za-z0-9_-]/, name, "_")}@#{List.first(given_host) || host}")
    end
  end

  defp server_name(nil), do: "python"
  defp server_name(name) when is_atom(name), do: name |> Macro.underscore() |> String.replace("/", "_")
  defp server_name({_, name}), do: "#{inspect(name)}"
  defp server_name({_, _, name}), do: "#{inspect(name)}"

  defp remember(name, node) do
    # A write that changes nothing costs nothing.
    :persistent_term.put({__MODULE__, name}, node)
  end

  defp await_ready(%{port: port} = state, deadline) do
    receive do
      {^port, {:data, data}} ->
        case handle_data(data, state) do
          {:ready, state} -> connect(state)
          {:ok, state} -> await_ready(state, deadline)
        end

      {^port, {:exit_status, status}} ->
        {:error, start_error(describe_status(status), state)}

      {:EXIT, ^port, reason} ->
        {:error, start_error("its port closed: #{inspect(reason)}", state)}

      {:EXIT, _pid, reason} ->
        stop_python(state)
        {:exit, reason}
    after
      remaining(deadline) ->
        state = stop_python(%{state | grace: 0})
        {:error, start_error("it was not ready in time (start_timeout:)", state)}
    end
  end

  defp connect(state) do
    if Node.connect(state.node) == true do
      {:ok, state}
    else
      state = stop_python(state)
      {:error, start_error("this node cannot connect to #{state.node}", state)}
    end
  end

  defp start_error(what, state) do
    lines = Enum.reverse(state.log)
    advice = if Enum.any?(lines, &(&1 =~ "No module named erlmesh")), do: "\n" <> @advice, else: ""
    text = "the Python node #{state.node} did not start: #{what}#{format_log(lines)}#{advice}"
    %Erlmesh.StartError{message: text, log: lines}
  end

  defp exit_error(what, status, state) do
    lines = Enum.reverse(state.log)
    text = "the Python node #{state.node} ended: #{what}#{format_log(lines)}"
    %Erlmesh.ExitError{message: text, status: status, log: lines}
  end

  defp format_log([]), do: ""
  defp format_log(lines), do: IO.iodata_to_binary(["\nIts last lines:" | Enum.map(lines, &["\n    ", indent(&1)])])
  defp indent(text), do: String.replace(text, "\n", "\n    ")

  defp describe_status(137), do: "it was killed (exit status 137: by kill -9, or by the kernel for lack of memory)"
  defp describe_status(139), do: "a segmentation fault in native code (exit status 139)"
  defp describe_status(status), do: "exit status #{status}"

  # Running

  defp reconnect(%{down_since: nil} = state), do: {:noreply, state}

  defp reconnect(%{node: node} = state) do
    silent = System.monotonic_time(:millisecond) - state.down_since

    cond do
      node in Node.list(:connected) ->
        if state.warned, do: Logger.info("#{node} is connected again", python: node)
        Erlmesh.telemetry([:python, :nodeup], %{system_time: System.system_time()}, %{node: node})
        Node.monitor(node, true)
        {:noreply, %{state | down_since: nil, warned: false}}

      silent > state.reconnect_timeout ->
        reason = "it runs, but has not been connected for #{silent} ms"
        {:stop, {exit_error(reason, nil, state), []}, state}

      not guard_running?(state) ->
        # Its exit status comes now. But a child of the node may hold the port open, so that none comes.
        Process.send_after(self(), :guard_killed, @exit_status_limit)
        {:noreply, state}

      true ->
        warn_once(state)
        # The attempt may take seconds, and this process has to read the log meanwhile.
        spawn(fn -> Node.connect(node) end)
        Process.send_after(self(), :reconnect, @reconnect_interval)
        {:noreply, %{state | warned: true}}
    end
  end

  defp guard_running?(%{guard_pid: nil}), do: true

  defp guard_running?(%{guard_pid: pid}) do
    {_, status} = System.cmd("kill", ["-0", "#{pid}"], stderr_to_stdout: true)
    status == 0
  end

  defp warn_once(%{warned: true}), do: :ok

  defp warn_once(%{node: node}) do
    Logger.warning("the connection to #{node} is lost, and is made again", python: node)
    Erlmesh.telemetry([:python, :nodedown], %{system_time: System.system_time()}, %{node: node})
  end

  # The log

  # A port delivers what Python writes as fast as it comes, and Logger may be slower. The mailbox must not grow without
  # end, so what is too much is counted and dropped. The event `ready` is not.
  defp handle_data(data, state) do
    state = %{state | overloaded: overloaded?(byte_size(data))}

    if state.overloaded and state.os_pid != nil do
      dropped = state.dropped + length(:binary.matches(data, "\n"))
      {:ok, %{state | partial: :dropped, dropped: dropped}}
    else
      {lines, [rest]} = Enum.split(:binary.split(data, "\n", [:global]), -1)
      handle_lines(lines, rest, state)
    end
  end

  defp overloaded?(size) do
    {:message_queue_len, length} = Process.info(self(), :message_queue_len)
    length > @max_waiting or length * size > @max_waiting_bytes
  end

  defp handle_lines([], rest, %{partial: partial} = state) do
    # The rest of an endless line is dropped.
    if is_binary(partial) and byte_size(partial) < @max_line_length,
      do: {:ok, %{state | partial: partial <> rest}},
      else: {:ok, state}
  end

  defp handle_lines([first | lines], rest, state) do
    lines = if state.partial == :dropped, do: lines, else: [state.partial <> first | lines]

    lines
    |> Enum.flat_map(&split_events(Erlmesh.printable(&1)))
    |> Enum.reduce({:ok, %{state | partial: rest}}, fn line, {result, state} ->
      {found, state} = handle_line(line, state)
      {if(found == :ready, do: :ready, else: result), state}
    end)
  end

  # A program may print without the end of a line, for example a progress bar. Then an event follows on the same line.
  defp split_events(line) do
    case String.split(line, "\x1e") do
      [text] -> [text]
      ["" | events] -> Enum.map(events, &("\x1e" <> &1))
      [text | events] -> [text | Enum.map(events, &("\x1e" <> &1))]
    end
  end

  defp handle_line("\x1eready " <> rest, %{os_pid: nil} = state) do
    with [_name, pid] <- String.split(rest, " "), {os_pid, ""} <- Integer.parse(pid) do
      {:ready, %{state | os_pid: os_pid}}
    else
      _ -> {:ok, state}
    end
  end

  defp handle_line("\x1elog " <> rest, state) do
    with [level, logger, text] <- String.split(rest, " ", parts: 3), {:ok, level} <- Map.fetch(@levels, level) do
      {:ok, write_log(level, logger, unescape(text), state)}
    else
      _ -> {:ok, write_log(:info, "stdout", rest, state)}
    end
  end

  defp handle_line("erlmesh: " <> _ = line, state), do: {:ok, write_log(:error, "erlmesh", line, state)}
  defp handle_line(line, state), do: {:ok, write_log(:info, "stdout", without_cookie(line, state), state)}

  # A program that is not erlmesh may print what it reads.
  defp without_cookie(line, %{os_pid: nil}),
    do: if(line == Atom.to_string(Node.get_cookie()), do: "(the cookie)", else: line)

  defp without_cookie(line, _state), do: line

  defp write_log(level, logger, text, state) do
    state =
      if state.overloaded, do: %{state | dropped: state.dropped + 1}, else: write_to_logger(level, logger, text, state)

    # To count characters takes a while, and a short line needs no count.
    short = if byte_size(text) <= @log_line_length, do: text, else: String.slice(text, 0, @log_line_length)
    %{state | log: Enum.take([short | state.log], @log_lines)}
  end

  defp write_to_logger(level, logger, text, state) do
    state = if state.dropped > 0, do: report_dropped(state), else: state
    Logger.log(level, text, python: state.node, python_logger: logger)
    state
  end

  # A flood of lines must not become a flood of these.
  defp report_dropped(%{dropped: dropped, reported: reported, node: node} = state) do
    now = System.monotonic_time(:millisecond)

    if reported == nil or now - reported >= @report_interval do
      Logger.warning("#{dropped} log lines of #{node} are dropped: too many came at once")
      %{state | dropped: 0, reported: now}
    else
      state
    end
  end

  defp unescape(text) do
    Regex.replace(~r/\\([nr\\])/, text, fn
      _, "n" -> "\n"
      _, "r" -> "\r"
      _, "\\" -> "\\"
    end)
  end

  # Stopping

  defp stop_python(%{port: nil} = state), do: state

  defp stop_python(state) do
    {ended, state} = command_and_wait("stop\n", state.grace + @stop_margin, state)
    {ended, state} = if ended, do: {true, state}, else: command_and_wait("kill\n", @kill_timeout, state)
    # The guard of the node itself does not react, for example because it is paused.
    if not ended and state.guard_pid, do: kill(state)
    close(state.port)
    %{state | port: nil}
  end

  # The group of the node comes first: the guard has not reaped the node, so its number is still its own.
  defp kill(%{os_pid: node_pid, guard_pid: guard_pid}) do
    group = if node_pid, do: ["-#{node_pid}"], else: []
    guard = if guard_pid, do: ["#{guard_pid}"], else: []
    System.cmd("kill", ["-KILL", "--"] ++ group ++ guard, stderr_to_stdout: true)
  end

  defp command_and_wait(command, timeout, state) do
    Port.command(state.port, command)
    await_exit(state, deadline(timeout))
  rescue
    # The port has closed.
    ArgumentError -> {true, state}
  end

  defp await_exit(%{port: port} = state, deadline) do
    receive do
      {^port, {:data, data}} ->
        {_, state} = handle_data(data, state)
        await_exit(state, deadline)

      {^port, {:exit_status, _}} ->
        {true, state}

      {:EXIT, ^port, _} ->
        {true, state}
    after
      remaining(deadline) -> {false, state}
    end
  end

  defp close(port) do
    Port.close(port)
  rescue
    ArgumentError -> true
  end

  defp deadline(timeout), do: System.monotonic_time(:millisecond) + timeout
  defp remaining(deadline), do: max(0, deadline - System.monotonic_time(:millisecond))
end

defmodule Erlmesh.Child do
  @moduledoc """
  A process on a Python node as a child of an Elixir supervisor.

      {Erlmesh.Child, python: MyApp.Model, start: {"workers", "main", [:eu]}, name: MyApp.Worker}

  The exposed function runs as a process of the Python node, with the exit reasons of Erlang. This server runs here and
  is linked with it. If the process ends, this server ends with the same reason, and the supervisor restarts both.

  If the node is not connected, this server waits and tries again. So a node that is away, or starts again, uses up no
  restarts of the supervisor.

  ## Options

    * `:python` - an `Erlmesh.Python`, or the name of a node.
    * `:start` - `{module, function, arguments}`.
    * `:name` - the name of this server.
    * `:shutdown` - milliseconds that the process gets to end. Then it is killed. Default 5,000.
    * `:restart` - as in a child specification. Default `:permanent`.
    * `:id` - Default: the name, or else `:start`.
  """

  use GenServer
  require Logger

  @defaults [python: nil, start: nil, name: nil, shutdown: 5_000, restart: :permanent, id: nil]
  @first_delay 100
  @max_delay 5_000
  @probe_timeout 2_000
  # While it waits, it does not answer `pid/1`.
  @fetch_timeout 1_000

  @doc false
  def child_spec(options) do
    options = Keyword.validate!(options, @defaults)

    %{
      id: options[:id] || options[:name] || options[:start],
      start: {__MODULE__, :start_link, [options]},
      restart: options[:restart],
      shutdown: options[:shutdown] + 1_000
    }
  end

  @doc "Starts the server. It returns also while the node is not connected."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    options = Keyword.validate!(options, @defaults)
    server_options = if options[:name], do: [name: options[:name]], else: []
    GenServer.start_link(__MODULE__, options, server_options)
  end

  @doc "The process on the Python node, or `{:error, :noconnection}` while there is none."
  @spec pid(GenServer.server()) :: {:ok, pid} | {:error, :noconnection}
  def pid(server), do: GenServer.call(server, :pid)

  @doc "Calls the process on the Python node. Exits as `GenServer.call/3`, with `:noconnection` while there is none."
  @spec call(GenServer.server(), term, timeout) :: term
  def call(server, request, timeout \\ 5_000) do
    case pid(server) do
      {:ok, pid} -> GenServer.call(pid, request, timeout)
      {:error, reason} -> exit({reason, {__MODULE__, :call, [server, request, timeout]}})
    end
  end

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    {module, function, arguments} = options[:start]

    state = %{
      python: options[:python],
      start: {to_name(module), to_name(function), arguments},
      shutdown: options[:shutdown],
      pid: nil,
      ref: nil,
      delay: @first_delay
    }

    {:ok, start_if_connected(state)}
  end

  @impl true
  def handle_call(:pid, _from, %{pid: nil} = state), do: {:reply, {:error, :noconnection}, state}
  def handle_call(:pid, _from, state), do: {:reply, {:ok, state.pid}, state}

  @impl true
  def handle_info(:try, %{pid: nil} = state), do: {:noreply, start_if_connected(state)}

  def handle_info({:DOWN, ref, :process, pid, reason}, %{ref: ref} = state) do
    state = %{state | pid: nil, ref: nil, delay: @first_delay}

    if reason == :noconnection or (reason in [:shutdown, :killed] and stopping?(node(pid))),
      do: {:noreply, start_later(state)},
      else: {:stop, reason, state}
  end

  # The DOWN message says the same.
  def handle_info({:EXIT, pid, _reason}, %{pid: pid} = state), do: {:noreply, state}
  def handle_info({:EXIT, pid, _reason}, state) when node(pid) != node(), do: {:noreply, state}
  def handle_info({:EXIT, _pid, reason}, state), do: {:stop, reason, state}
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, %{pid: nil}), do: :ok

  def terminate(_reason, %{pid: pid, ref: ref, shutdown: shutdown}) do
    Process.exit(pid, :shutdown)

    receive do
      {:DOWN, ^ref, :process, _, _} -> :ok
    after
      shutdown -> Process.exit(pid, :kill)
    end
  end

  defp start_if_connected(state) do
    case Erlmesh.Python.fetch_node(state.python, @fetch_timeout) do
      {:ok, node} -> start_or_connect(node, state)
      {:error, _} -> start_later(state)
    end
  end

  defp start_or_connect(node, state) do
    if node == Node.self() or node in Node.list(:connected) do
      {module, function, arguments} = state.start
      {pid, ref} = :erlang.spawn_opt(node, module, function, arguments, [:link, :monitor])
      %{state | pid: pid, ref: ref}
    else
      # An attempt to connect may take seconds.
      spawn(fn -> Node.connect(node) end)
      start_later(state)
    end
  end

  # A node that stops in order ends its processes first. From then on it refuses calls as if it were not connected.
  defp stopping?(node) do
    :erpc.call(node, :erlang, :node, [], @probe_timeout) != node
  catch
    _, _ -> true
  end

  defp start_later(state) do
    Process.send_after(self(), :try, state.delay)
    %{state | delay: min(2 * state.delay, @max_delay)}
  end

  defp to_name(name) when is_atom(name), do: name
  defp to_name(name) when is_binary(name), do: String.to_atom(name)
end

defmodule Erlmesh.Module do
  @moduledoc """
  The exposed functions of a Python module as functions of an Elixir module.

      defmodule MyApp.Models do
        use Erlmesh.Module, python: MyApp.Model, module: "models", functions: [predict: 1, mean: 1]
      end

      MyApp.Models.predict(image)

  A function returns the value of the Python function, or raises as `Erlmesh.call!/5` does.

  ## Options

    * `:python` - an `Erlmesh.Python`, or the name of a node: where the functions are called.
    * `:module` - the name under which the Python module is exposed.
    * `:timeout` - of each call, in milliseconds. Default 5,000.
    * One of these says which functions there are, when the module is compiled:
      * `:functions` - a keyword list of names and arities.
      * `:from` - a path of a file that `write!/2` has written. It has parameters and documentation too. A build needs
        no Python then.
      * `:from` - the name of a connected node, which is asked.

  `define/2` makes such a module at run time.
  """

  @max_functions 500
  @reserved ~w(module_info behaviour_info)
  @default_timeout 5_000

  @typedoc "Name, arity, parameters, and the documentation."
  @type function_description :: {atom, arity, [String.t()], String.t() | nil}

  defmacro __using__(options) do
    quote bind_quoted: [options: options] do
      @erlmesh_python Keyword.fetch!(options, :python)
      @erlmesh_module :"#{Keyword.fetch!(options, :module)}"
      @erlmesh_timeout Keyword.get(options, :timeout, 5_000)
      if is_binary(options[:from]), do: @external_resource(options[:from])

      for {name, _arity, parameters, documentation} <- Erlmesh.Module.functions(options) do
        variables = Enum.map(parameters, &Macro.var(&1, __MODULE__))
        @doc documentation
        def unquote(name)(unquote_splicing(variables)) do
          Erlmesh.call!(
            @erlmesh_python,
            @erlmesh_module,
            unquote(name),
            unquote(variables),
            @erlmesh_timeout
          )
        end
      end
    end
  end

  @doc """
  Asks a Python node for the functions of one of its modules.

  Raises `Erlmesh.CallError` if the node does not answer, and `ArgumentError` if it exposes no such module.
  """
  @spec describe(Erlmesh.python(), atom | String.t()) :: [function_description]
  def describe(python, module) do
    functions = Erlmesh.call!(python, :erlmesh, :functions, [:"#{module}"], @default_timeout)

    case Enum.filter(Enum.take(List.wrap(functions), @max_functions), &description?/1) do
      [] -> raise ArgumentError, "#{inspect(python)} exposes no functions of a module #{module}"
      found -> found
    end
  end

  @doc "Writes functions to a file for the option `:from`."
  @spec write!([function_description], Path.t()) :: :ok
  def write!(functions, path) do
    text = Enum.map(functions, &:io_lib.format(~c"~0tp.~n", [&1]))
    File.write!(path, :unicode.characters_to_binary(text))
  end

  @doc """
  Makes a module at run time, with the functions that the Python node exposes now.

      Erlmesh.Module.define(MyApp.Models, python: MyApp.Model, module: "models")
  """
  @spec define(module, keyword) :: {:module, module, binary, term}
  def define(name, options) do
    options = Keyword.put_new(options, :functions, describe(options[:python], options[:module]))

    contents =
      quote do
        use Erlmesh.Module, unquote(Macro.escape(options))
      end

    Module.create(name, contents, file: "erlmesh", line: 1)
  end

  @doc false
  def functions(options) do
    options
    |> read_functions()
    |> Enum.map(fn
      {name, arity} -> {name, arity, [], nil}
      described -> described
    end)
    |> Enum.map(fn {name, arity, parameters, documentation} ->
      {name, arity, variable_names(parameters, arity), to_doc(documentation, options[:module], name, arity)}
    end)
  end

  defp read_functions(options) do
    case {options[:functions], options[:from]} do
      {functions, nil} when is_list(functions) -> functions
      {nil, path} when is_binary(path) -> read_file(path)
      {nil, node} when is_atom(node) and not is_nil(node) -> describe(node, options[:module])
      _ -> raise ArgumentError, "use Erlmesh.Module needs either functions: or from:"
    end
  end

  defp read_file(path) do
    case :file.consult(String.to_charlist(path)) do
      {:ok, functions} ->
        Enum.filter(functions, &description?/1)

      {:error, reason} ->
        text = "cannot read #{path}: #{:file.format_error(reason)}. Erlmesh.Module.write!/2 writes such a file"
        raise ArgumentError, text
    end
  end

  # What a node says becomes code, so its form is checked.
  defp description?({name, arity, parameters, documentation})
       when is_atom(name) and is_integer(arity) and arity in 0..255 and is_list(parameters) do
    text = Atom.to_string(name)

    text =~ ~r/\A[a-z_][A-Za-z0-9_]*[!?]?\z/ and text not in @reserved and not String.starts_with?(text, "__") and
      Enum.all?(parameters, &is_binary/1) and (is_nil(documentation) or is_binary(documentation))
  end

  defp description?(_), do: false

  defp variable_names(parameters, arity) do
    names = for name <- parameters, do: name |> String.trim_leading("_") |> Macro.underscore()
    valid? = Enum.all?(names, &(&1 =~ ~r/\A[a-z][a-z0-9_]*\z/)) and Enum.uniq(names) == names

    if valid? and length(names) == arity,
      do: Enum.map(names, &String.to_atom/1),
      else: Enum.map(Enum.take(1..255, arity), &String.to_atom("argument#{&1}"))
  end

  defp to_doc(nil, module, name, arity), do: "Calls the Python function `#{module}.#{name}/#{arity}`."
  defp to_doc(text, _module, _name, _arity), do: Erlmesh.printable(text)
end
