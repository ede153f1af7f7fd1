# A BEAM with one supervised Python node. It prints the pids, and ends as the line of its input says.
[python, folder, mode] = System.argv()

child =
  {Erlmesh.Python, name: Shop.Model, python: python, cd: folder, expose: ["probe"], grace: 500, node: "model"}

{:ok, _} = Supervisor.start_link([child], strategy: :one_for_one)
pids = Tuple.to_list(Erlmesh.call!(Shop.Model, "probe", "pids"))

if mode == "held" do
  {:error, %{reason: :timeout}} = Erlmesh.call(Shop.Model, "probe", "hold_gil", [], 300)
end

IO.puts("node #{Erlmesh.Python.node_name(Shop.Model)}")
IO.puts("pids #{System.pid()} #{Enum.join(pids, " ")}")

case String.trim(IO.gets("")) do
  "halt" -> System.halt(0)
  "stop" -> System.stop(0)
  "raise" -> raise "the owner ends"
end

Process.sleep(:infinity)
