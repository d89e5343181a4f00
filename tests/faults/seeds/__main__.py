from faults.seeds.run import main

raise SystemExit(main())
